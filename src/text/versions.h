// Names and versions of the third-party libraries inside src/text, for `bittern env`.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace bittern::text {

/// {"tokenizers", "0.23.2"}, {"minijinja", ...}, {"llguidance", ...}, {"onig", ...}: as linked into this program.
std::vector<std::pair<std::string, std::string>> library_versions();

/// The same in one line: "llguidance 1.9.1, minijinja 3.1.0, ...".
std::string bridge_version();

}  // namespace bittern::text
