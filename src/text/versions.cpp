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

}  // namespace bittern::text
