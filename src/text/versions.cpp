// Reads what the Rust bridge reports about itself.
#include "text/versions.h"

#include <algorithm>

#include "base/strings.h"
#include "text/bridge_call.h"

namespace bittern::text {

std::vector<std::pair<std::string, std::string>> library_versions() {
  std::vector<std::pair<std::string, std::string>> versions;
  for (const std::string_view entry : split(bittern_bridge_versions(), ';')) {
    const size_t space = std::min(entry.find(' '), entry.size());
    versions.emplace_back(entry.substr(0, space), trim(entry.substr(space)));
  }
  std::sort(versions.begin(), versions.end());
  return versions;
}

std::string bridge_version() {
  std::vector<std::string> entries;
  for (const auto& [name, version] : library_versions()) entries.push_back(name + " " + version);
  return join(entries, ", ");
}

size_t grammar_first_bytes(const std::string& json_schema) {
  size_t count = 0;
  call_bridge(ErrorCode::invalid_argument, "JSON schema", bittern_bridge_grammar_first_bytes, slice(json_schema),
              &count);
  return count;
}

}  // namespace bittern::text
