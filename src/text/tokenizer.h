// Tokenizer: text to token ids and back, equal to Hugging Face's, from a tokenizer.json or a SentencePiece .model.
// Special tokens that a request merely spells out are read as plain text (see Prompt). It knows no model and no
// chat format; chat_template.h builds the prompts.
#pragma once

#include <bittern/error.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

struct BridgeTokenizer;

namespace bittern::text {

/// Gives the bytes of a checkpoint's file by name ("tokenizer.json"), or nothing when there is none.
using FileReader = std::function<std::optional<std::string>(std::string_view name)>;

/// Bytes [begin, end) of a text.
struct ByteRange {
  size_t begin = 0;
  size_t end = 0;
  bool operator==(const ByteRange&) const = default;
};

/// A text that is partly not ours: `untrusted` are sorted, disjoint ranges of bytes that came from a request. A special
/// token that touches one of them is not read as one.
struct Prompt {
  std::string text;
  std::vector<ByteRange> untrusted;
};

struct EncodeOptions {
  bool add_special = true;    // BOS and EOS, as the tokenizer's own settings say
  bool parse_special = true;  // false: special tokens in the text are plain text
};

/// Ids, and for each the bytes of the text that it stands for (empty for an added BOS or EOS).
struct Encoding {
  std::vector<int32_t> ids;
  std::vector<ByteRange> offsets;
};

/// A token that is found in texts as a whole, before the model of the vocabulary sees them.
struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;  // control tokens: left out when decoding with skip_special
};

/// Ids with a role, from tokenizer_config.json, special_tokens_map.json, generation_config.json and config.json.
struct SpecialIds {
  std::optional<int32_t> bos;
  std::optional<int32_t> eos;
  std::optional<int32_t> pad;
  std::optional<int32_t> unk;
  /// Every id that ends a generation: eos and those that generation_config.json or config.json lists.
  std::vector<int32_t> stop;
};

/// Safe to use from several threads.
class Tokenizer {
 public:
  /// Reads tokenizer.json, or else tokenizer.model with its added tokens, and the settings beside it. `origin` names
  /// the checkpoint in errors. Throws Error(not_found) when neither exists, Error(invalid_checkpoint) when a file is
  /// damaged.
  Tokenizer(std::string origin, const FileReader& read);
  static std::unique_ptr<Tokenizer> load(std::string origin, const FileReader& read) {
    return std::make_unique<Tokenizer>(std::move(origin), read);
  }
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  /// Throws Error(invalid_argument) when the text is not valid UTF-8.
  std::vector<int32_t> encode(std::string_view text, EncodeOptions options = {}) const;
  /// Encodes a rendered prompt; nothing is added, since templates write their own BOS.
  std::vector<int32_t> encode(const Prompt& prompt) const;
  Encoding encode_with_offsets(std::string_view text, EncodeOptions options = {}) const;

  /// The text of the ids, as Hugging Face decodes it. Ids outside the vocabulary add nothing. Invalid UTF-8 becomes
  /// U+FFFD. Use TextStream for ids that arrive one by one.
  std::string decode(std::span<const int32_t> ids, bool skip_special = true) const;

  /// The token as the vocabulary spells it ("Ġhello"); nothing for an unknown id.
  std::optional<std::string> token(int32_t id) const;
  /// The bytes that the token adds to a text (" hello"), perhaps not valid UTF-8; nothing for an unknown id.
  std::optional<std::string> token_bytes(int32_t id) const;
  /// Inverse of token().
  std::optional<int32_t> id_of(std::string_view token) const;
  /// One more than the largest id.
  int32_t vocab_size() const { return vocab_size_; }

  const SpecialIds& special_ids() const { return special_ids_; }
  /// In the order of their ids.
  const std::vector<AddedToken>& added_tokens() const { return added_tokens_; }
  bool is_special(int32_t id) const;

  /// Characters that normalization may turn into one that begins or ends a special token; ChatTemplate needs them.
  const std::string& lookalikes() const { return lookalikes_; }
  /// Whether special tokens are found only as they are spelled, before any normalization.
  bool specials_are_exact() const { return specials_are_exact_; }
  const std::string& origin() const { return origin_; }

 private:
  friend class TokenTrie;
  struct Handle;

  const BridgeTokenizer* bridge() const;

  void open(const FileReader& read);
  void read_settings(const FileReader& read);
  Encoding encode_all(std::string_view text, EncodeOptions options, bool with_offsets) const;
  Encoding encode_raw(std::string_view text, std::span<const ByteRange> untrusted, bool from_file,
                      bool with_offsets) const;
  std::optional<std::string> token_of(int32_t id, bool as_bytes) const;

  std::string origin_;
  std::unique_ptr<Handle> handle_;
  int32_t vocab_size_ = 0;
  std::vector<AddedToken> added_tokens_;
  SpecialIds special_ids_;
  std::string lookalikes_;
  bool specials_are_exact_ = true;
  // Set when the settings say so; otherwise the file's own post-processor decides.
  std::optional<bool> add_bos_;
  std::optional<bool> add_eos_;
};

}  // namespace bittern::text
