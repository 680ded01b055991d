// UTF-8 by the table of well-formed byte sequences in the Unicode standard (chapter 3, table 3-7): after the first
// byte only the second has a narrowed range, which is what excludes overlong forms, surrogates and U+110000 and above.
#include "base/strings.h"

namespace bittern {
namespace {

struct Lead {
  size_t length;         // bytes of the character; 0 when this byte starts none
  uint8_t second_first;  // allowed range of the second byte
  uint8_t second_last;
};

Lead lead(uint8_t byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xc2) return {0, 0, 0};  // a continuation, or an overlong form of ASCII
  if (byte < 0xe0) return {2, 0x80, 0xbf};
  if (byte == 0xe0) return {3, 0xa0, 0xbf};
  if (byte == 0xed) return {3, 0x80, 0x9f};
  if (byte < 0xf0) return {3, 0x80, 0xbf};
  if (byte == 0xf0) return {4, 0x90, 0xbf};
  if (byte < 0xf4) return {4, 0x80, 0xbf};
  if (byte == 0xf4) return {4, 0x80, 0x8f};
  return {0, 0, 0};
}

// What starts at a position: how many bytes are well formed, and whether they make a whole character.
struct Scan {
  size_t good;
  bool whole;
};

Scan scan(std::string_view bytes, size_t at) {
  const Lead first = lead(static_cast<uint8_t>(bytes[at]));
  if (first.length == 0) return {0, false};
  size_t good = 1;
  while (good < first.length && at + good < bytes.size()) {
    const auto byte = static_cast<uint8_t>(bytes[at + good]);
    const uint8_t low = good == 1 ? first.second_first : 0x80;
    const uint8_t high = good == 1 ? first.second_last : 0xbf;
    if (byte < low || byte > high) break;
    ++good;
  }
  return {good, good == first.length};
}

}  // namespace

size_t utf8_valid_prefix(std::string_view bytes) {
  size_t at = 0;
  while (at < bytes.size()) {
    const Scan character = scan(bytes, at);
    if (!character.whole) break;
    at += character.good;
  }
  return at;
}

bool utf8_is_valid(std::string_view bytes) { return utf8_valid_prefix(bytes) == bytes.size(); }

size_t utf8_incomplete_tail(std::string_view bytes) {
  // A character that lacks bytes begins among the last three.
  for (size_t tail = 1; tail <= 3 && tail <= bytes.size(); ++tail) {
    const size_t at = bytes.size() - tail;
    if ((static_cast<uint8_t>(bytes[at]) & 0xc0) == 0x80) continue;  // a continuation: its start is further left
    const Scan character = scan(bytes, at);
    return character.good == tail && !character.whole ? tail : 0;
  }
  return 0;
}

std::string utf8_sanitize(std::string_view bytes) {
  std::string clean;
  clean.reserve(bytes.size());
  for (size_t at = 0; at < bytes.size();) {
    const Scan character = scan(bytes, at);
    if (character.whole) {
      clean.append(bytes.substr(at, character.good));
    } else {
      clean += "\xef\xbf\xbd";
    }
    at += character.good > 0 ? character.good : 1;
  }
  return clean;
}

}  // namespace bittern
