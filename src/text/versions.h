// Names and versions of the third-party libraries inside src/text, for `bittern env`, and proof that the grammar engine
// works. Constrained decoding itself is not here.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace bittern::text {

/// {"tokenizers", "0.23.2"}, {"minijinja", ...}, {"llguidance", ...}, {"onig", ...}: as linked into this program.
std::vector<std::pair<std::string, std::string>> library_versions();

/// The same in one line: "llguidance 1.9.1, minijinja 3.1.0, ...".
std::string bridge_version();

/// Compiles a JSON schema with llguidance and counts the bytes that may begin a text which satisfies it. Throws
/// Error(invalid_argument) naming an unsupported keyword.
size_t grammar_first_bytes(const std::string& json_schema);

}  // namespace bittern::text
