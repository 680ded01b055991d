// The wording of operating system errors, and the hints for those that users meet most.
#include "base/os_error.h"

#include <bittern/error.h>
#include <fmt/core.h>

#include <cerrno>
#include <system_error>

namespace bittern {
namespace {

const char* hint_for(int error_number) {
  switch (error_number) {
    case ENOENT: return "check the path";
    case EACCES:
    case EPERM: return "check the permissions of the file and of its folders";
    case ENOSPC:
    case EDQUOT: return "free disk space or choose another folder";
    case EMFILE: return "raise the limit on open files (ulimit -n)";
    default: return "";
  }
}

}  // namespace

void throw_os_error(std::string_view verb, const std::filesystem::path& path, int error_number) {
  const ErrorCode code = error_number == ENOENT ? ErrorCode::not_found : ErrorCode::io;
  const std::string reason = std::generic_category().message(error_number);
  throw Error(code, fmt::format("cannot {} {}: {}", verb, path.string(), reason), hint_for(error_number));
}

}  // namespace bittern
