// Turns an errno of the operating system into an Error that says what was tried, on which path, and why it failed.
#pragma once

#include <filesystem>
#include <string_view>

namespace bittern {

/// Throws Error "cannot <verb> <path>: <reason>"; the code is not_found for a missing file, else io.
[[noreturn]] void throw_os_error(std::string_view verb, const std::filesystem::path& path, int error_number);

}  // namespace bittern
