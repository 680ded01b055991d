// A plain table for reports on a terminal: columns padded to their widest cell, numbers to the right.
#pragma once

#include <string>
#include <vector>

namespace bittern::cli {

class Table {
 public:
  explicit Table(std::vector<std::string> header) { rows_.push_back(std::move(header)); }
  void row(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  /// Lines with two spaces of indent; the first column is left-aligned, the others right-aligned.
  std::string text() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace bittern::cli
