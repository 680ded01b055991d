// Small text helpers that more than one folder needs: splitting, sizes for people, spelling suggestions, UTF-8.
// They work on bytes and never depend on the locale.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace bittern {

/// Parts between separators, empty ones kept: split("a,,b", ',') is {"a", "", "b"}; split("", ',') is {""}.
std::vector<std::string_view> split(std::string_view text, char separator);
/// Without leading and trailing ASCII white space.
std::string_view trim(std::string_view text);
/// The parts with `separator` between them.
std::string join(std::span<const std::string> parts, std::string_view separator);
/// ASCII letters in lower case; other bytes as they are.
std::string to_lower(std::string_view text);

/// "512 B", "1.5 KiB", "23.4 GiB": binary units, three significant digits.
std::string human_bytes(uint64_t bytes);
/// "950", "1.24 K", "494 M", "8.03 B": decimal units, three significant digits.
std::string human_count(uint64_t count);
/// "0.8 s", "75 s", "4 min 10 s", "2 h 05 min".
std::string human_seconds(double seconds);

/// Edits (insert, delete, replace, swap of neighbours) that turn one word into the other.
size_t edit_distance(std::string_view a, std::string_view b);
/// The candidate most like `word` (case ignored), or "" when none is near enough to be meant (a third of its length).
std::string nearest(std::string_view word, std::span<const std::string_view> candidates);
std::string nearest(std::string_view word, std::span<const std::string> candidates);
/// For the hint of an Error: "did you mean 'x'?", or "" when nothing is near.
std::string did_you_mean(std::string_view word, std::span<const std::string_view> candidates);
std::string did_you_mean(std::string_view word, std::span<const std::string> candidates);

/// Length of the longest prefix that is complete, valid UTF-8 (no surrogates, no overlong forms, at most U+10FFFF).
size_t utf8_valid_prefix(std::string_view bytes);
/// Whether all of it is valid UTF-8.
bool utf8_is_valid(std::string_view bytes);
/// How many bytes at the end begin a character that more bytes could complete: 0 to 3.
size_t utf8_incomplete_tail(std::string_view bytes);
/// Whether the text does not stop in the middle of a character.
inline bool utf8_is_complete(std::string_view bytes) { return utf8_incomplete_tail(bytes) == 0; }
/// Each maximal invalid part replaced by U+FFFD, as the Unicode standard recommends.
std::string utf8_sanitize(std::string_view bytes);

}  // namespace bittern
