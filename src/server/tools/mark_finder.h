// MarkFinder: finds the first of some marks in text that comes piece by piece, and holds back only what may become one.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace bittern::server {

class MarkFinder {
 public:
  explicit MarkFinder(std::vector<std::string> marks) : marks_(std::move(marks)) {}

  /// Takes the next byte and appends to `out` what cannot belong to a mark any more. The index of a mark that is now
  /// complete, or -1. Of marks that begin alike, the shorter one wins.
  int push(char byte, std::string& out);
  /// What was held back, when no more comes.
  std::string take() { return std::exchange(held_, {}); }

 private:
  bool may_become_mark() const;

  std::vector<std::string> marks_;
  std::string held_;
};

}  // namespace bittern::server
