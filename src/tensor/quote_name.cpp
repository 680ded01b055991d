// Quoting of untrusted names.
#include "tensor/quote_name.h"

#include <fmt/core.h>

#include "base/strings.h"

namespace bittern {
namespace {

constexpr std::size_t kMaxShown = 200;

}  // namespace

std::string quote_name(std::string_view name) {
  std::string text = "'";
  for (const char c : utf8_sanitize(name.substr(0, kMaxShown))) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      text += fmt::format("\\x{:02x}", byte);
    } else {
      text += c;
    }
  }
  return text + (name.size() > kMaxShown ? "...'" : "'");
}

}  // namespace bittern
