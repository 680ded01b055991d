// Masks over bits of tokens, and their combinations.
#include "server/generation/masks.h"

#include <fmt/core.h>

#include <algorithm>

namespace bittern::server {
namespace {

class AllowedTokens final : public TokenMask {
 public:
  void allow(const std::vector<std::int32_t>& tokens) {
    for (std::int32_t token : tokens) {
      const auto word = static_cast<std::size_t>(token) / 32;
      if (word >= bits_.size()) bits_.resize(word + 1);
      bits_[word] |= 1u << (token % 32);
    }
  }
  void restrict(std::vector<std::uint32_t>& allowed) override {
    for (std::size_t i = 0; i < allowed.size(); ++i) allowed[i] &= i < bits_.size() ? bits_[i] : 0u;
  }
  void accept(std::int32_t) override {}
  std::shared_ptr<TokenMask> clone() const override { return std::make_shared<AllowedTokens>(*this); }

 private:
  std::vector<std::uint32_t> bits_;
};

class BadSequences final : public TokenMask {
 public:
  explicit BadSequences(std::vector<std::vector<std::int32_t>> sequences) : sequences_(std::move(sequences)) {
    for (const auto& sequence : sequences_) longest_ = std::max(longest_, sequence.size());
  }
  void restrict(std::vector<std::uint32_t>& allowed) override {
    for (const auto& sequence : sequences_) {
      const auto word = static_cast<std::size_t>(sequence.back()) / 32;
      if (word < allowed.size() && ends_with_start_of(sequence)) allowed[word] &= ~(1u << (sequence.back() % 32));
    }
  }
  void accept(std::int32_t token) override {
    recent_.push_back(token);
    if (recent_.size() >= longest_) recent_.erase(recent_.begin());
  }
  std::shared_ptr<TokenMask> clone() const override { return std::make_shared<BadSequences>(sequences_); }

 private:
  bool ends_with_start_of(const std::vector<std::int32_t>& sequence) const {
    const std::size_t before = sequence.size() - 1;
    return recent_.size() >= before && std::equal(sequence.begin(), sequence.end() - 1, recent_.end() - before);
  }

  std::vector<std::vector<std::int32_t>> sequences_;
  std::size_t longest_ = 0;
  std::vector<std::int32_t> recent_;  // one less than the longest sequence
};

class AllOf final : public TokenMask {
 public:
  explicit AllOf(std::vector<std::shared_ptr<TokenMask>> masks) : masks_(std::move(masks)) {}
  void restrict(std::vector<std::uint32_t>& allowed) override {
    for (const auto& mask : masks_) mask->restrict(allowed);
  }
  void accept(std::int32_t token) override {
    for (const auto& mask : masks_) mask->accept(token);
  }
  std::shared_ptr<TokenMask> clone() const override {
    std::vector<std::shared_ptr<TokenMask>> copies;
    for (const auto& mask : masks_) copies.push_back(mask->clone());
    return std::make_shared<AllOf>(std::move(copies));
  }

 private:
  std::vector<std::shared_ptr<TokenMask>> masks_;
};

class MaskAfter final : public TokenMask {
 public:
  MaskAfter(std::int32_t token, std::shared_ptr<TokenMask> inner) : token_(token), inner_(std::move(inner)) {}
  void restrict(std::vector<std::uint32_t>& allowed) override {
    if (begun_) inner_->restrict(allowed);
  }
  void accept(std::int32_t token) override {
    if (begun_) inner_->accept(token);
    if (token == token_) begun_ = true;
  }
  std::shared_ptr<TokenMask> clone() const override { return std::make_shared<MaskAfter>(token_, inner_->clone()); }

 private:
  std::int32_t token_;
  std::shared_ptr<TokenMask> inner_;
  bool begun_ = false;
};

/// A word as it is spelled at the start of a text and after a space, which tokenizers spell differently.
std::vector<std::vector<std::int32_t>> sequences_of(const text::Tokenizer& tokenizer,
                                                    const std::vector<std::string>& words) {
  std::vector<std::vector<std::int32_t>> sequences;
  for (const std::string& word : words) {
    if (word.empty()) refuse_field("bad_words", "bad_words has an empty text");
    for (const std::string& text : {word, " " + word}) {
      auto ids = tokenizer.encode(text, {.add_special = false, .parse_special = false});
      if (!ids.empty()) sequences.push_back(std::move(ids));
    }
  }
  return sequences;
}

std::vector<std::int32_t> end_tokens(LoadedModel& model) {
  std::vector<std::int32_t> ids = model.model().config().eos_ids;
  const auto& stop = model.tokenizer().special_ids().stop;
  ids.insert(ids.end(), stop.begin(), stop.end());
  std::erase_if(ids, [](std::int32_t id) { return id < 0; });
  return ids;
}

void check_vocabulary(const text::Tokenizer& tokenizer, const std::vector<std::int32_t>& tokens, const char* param) {
  for (std::int32_t token : tokens) {
    if (token >= 0 && token < tokenizer.vocab_size()) continue;
    refuse_field(param, fmt::format("{} holds token {}, but the vocabulary has {} tokens", param, token,
                                    tokenizer.vocab_size()));
  }
}

}  // namespace

std::shared_ptr<TokenMask> make_allowed_tokens_mask(const std::vector<std::int32_t>& allowed,
                                                    const std::vector<std::int32_t>& always) {
  auto mask = std::make_shared<AllowedTokens>();
  mask->allow(allowed);
  mask->allow(always);
  return mask;
}

std::shared_ptr<TokenMask> make_bad_sequences_mask(std::vector<std::vector<std::int32_t>> sequences) {
  return std::make_shared<BadSequences>(std::move(sequences));
}

std::shared_ptr<TokenMask> make_all_of_mask(std::vector<std::shared_ptr<TokenMask>> masks) {
  return std::make_shared<AllOf>(std::move(masks));
}

std::shared_ptr<TokenMask> make_mask_after(std::int32_t token, std::shared_ptr<TokenMask> inner) {
  return std::make_shared<MaskAfter>(token, std::move(inner));
}

std::shared_ptr<TokenMask> make_mask(LoadedModel& model, const GenerationSettings& settings) {
  std::vector<std::shared_ptr<TokenMask>> masks;
  if (!settings.allowed_tokens.empty()) {
    check_vocabulary(model.tokenizer(), settings.allowed_tokens, "allowed_token_ids");
    masks.push_back(make_allowed_tokens_mask(settings.allowed_tokens, end_tokens(model)));
  }
  if (!settings.bad_words.empty()) {
    masks.push_back(make_bad_sequences_mask(sequences_of(model.tokenizer(), settings.bad_words)));
  }
  if (auto grammar = constraint_mask(model, settings.constraint)) {
    masks.push_back(settings.constrain_after ? make_mask_after(*settings.constrain_after, grammar) : grammar);
  }
  if (masks.size() <= 1) return masks.empty() ? nullptr : masks[0];
  return make_all_of_mask(std::move(masks));
}

}  // namespace bittern::server
