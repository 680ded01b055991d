// The window of TextStream: ids [0, held_from_) are handed out and give context, the rest wait for a complete
// character.
#include "text/text_stream.h"

#include <span>

namespace bittern::text {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
// A character has at most four bytes, so ids held longer than this are no character in the making.
constexpr size_t kMaxHeld = 32;

}  // namespace

std::string TextStream::push(int32_t id) {
  window_.push_back(id);
  const std::string text = tokenizer_->decode(window_, skip_special_);
  const size_t held = window_.size() - held_from_;
  const bool incomplete = text.ends_with(kReplacement) && held < kMaxHeld;
  if (incomplete || text == shown_) {
    // Ids that add nothing (special tokens) must not pile up.
    if (!incomplete && held >= kMaxHeld) window_.resize(held_from_);
    return {};
  }
  return take(text);
}

std::string TextStream::finish() {
  const std::string text = tokenizer_->decode(window_, skip_special_);
  std::string rest = text == shown_ ? std::string() : take(text);
  window_.clear();
  shown_.clear();
  held_from_ = 0;
  return rest;
}

/// Hands out what `text`, the decoded window, has beyond shown_, and makes the ids it came from the new context.
std::string TextStream::take(const std::string& text) {
  const std::span<const int32_t> held = std::span(window_).subspan(held_from_);
  // The new ids can change what the window's first part decodes to only where bytes turned out to be invalid.
  std::string fresh = text.starts_with(shown_) ? text.substr(shown_.size()) : tokenizer_->decode(held, skip_special_);
  window_.erase(window_.begin(), window_.begin() + static_cast<ptrdiff_t>(held_from_));
  held_from_ = window_.size();
  shown_ = tokenizer_->decode(window_, skip_special_);
  return fresh;
}

}  // namespace bittern::text
