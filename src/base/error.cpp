// The one table that gives each ErrorCode its printed name, its process exit status and its HTTP status.
// Nothing else in Bittern maps codes to numbers.
#include <bittern/error.h>

namespace bittern {
namespace {

struct CodeRow {
  ErrorCode code;
  std::string_view name;
  int exit_status;  // follows sysexits.h where that has a fitting number
  int http_status;
};

constexpr CodeRow kCodes[] = {
    {ErrorCode::invalid_argument, "invalid_argument", 2, 400},
    {ErrorCode::not_found, "not_found", 66, 404},
    {ErrorCode::invalid_checkpoint, "invalid_checkpoint", 65, 422},
    {ErrorCode::unsupported, "unsupported", 69, 501},
    {ErrorCode::out_of_memory, "out_of_memory", 71, 507},
    {ErrorCode::io, "io", 74, 500},
    {ErrorCode::overloaded, "overloaded", 75, 429},
    {ErrorCode::cancelled, "cancelled", 130, 499},
    {ErrorCode::internal, "internal", 70, 500},
};

// The table is indexed by the enum's value, so its order is part of its meaning.
constexpr bool in_order() {
  for (int i = 0; i < static_cast<int>(std::size(kCodes)); ++i) {
    if (static_cast<int>(kCodes[i].code) != i) return false;
  }
  return std::size(kCodes) == static_cast<size_t>(ErrorCode::internal) + 1;
}
static_assert(in_order(), "kCodes must list every ErrorCode in the order of the enum");

const CodeRow& row(ErrorCode code) { return kCodes[static_cast<size_t>(code)]; }

}  // namespace

std::string_view error_code_name(ErrorCode code) { return row(code).name; }
int exit_status(ErrorCode code) { return row(code).exit_status; }
int http_status(ErrorCode code) { return row(code).http_status; }

}  // namespace bittern
