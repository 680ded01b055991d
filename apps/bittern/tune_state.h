// What a tuning has measured so far, as a file: a run that was stopped goes on after its last measurement, and another
// bar, limit or objective asks nothing anew. Measurements are kept as long as what they depend on is the same.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "base/json.h"

namespace bittern::cli {

class TuneState {
 public:
  /// Reads `path` where it is there. `model` names the model: Error(invalid_argument) when the file is about another.
  /// `conditions` is everything else that figures depend on: measurements under others are dropped, and dropped() says
  /// how many. Error(invalid_checkpoint) for a file that cannot be read.
  TuneState(std::filesystem::path path, const std::string& model, const Json& conditions);

  const Json* find(const std::string& candidate) const;
  /// Keeps it and writes the file.
  void put(const std::string& candidate, Json measurement);
  std::size_t dropped() const { return dropped_; }

 private:
  void read();

  std::filesystem::path path_;
  Json head_;
  std::map<std::string, Json> measured_;
  std::size_t dropped_ = 0;
};

}  // namespace bittern::cli
