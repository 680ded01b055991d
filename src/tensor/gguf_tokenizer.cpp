// tokenizer.json from lists. SentencePiece keeps no merges: it joins the neighbours whose union has the highest score,
// which equals merging in the order of those scores.
#include "tensor/gguf_tokenizer.h"

#include <bittern/error.h>

#include <algorithm>
#include <array>
#include <unordered_map>

#include "base/strings.h"
#include "tensor/gguf_pre.h"
#include "tensor/quote_name.h"

namespace bittern {
namespace {

constexpr std::string_view kSpace = "\u2581";
constexpr std::size_t kMaxVocab = 1 << 24;

[[noreturn]] void damaged(const GgufMetadata& metadata, const std::string& reason) {
  throw Error(ErrorCode::invalid_checkpoint, metadata.path() + ": " + reason);
}

// --- the vocabulary ---

struct Vocabulary {
  std::vector<std::string_view> tokens;
  std::vector<std::int64_t> types;  // as many

  GgufTokenType type(std::size_t id) const { return static_cast<GgufTokenType>(types[id]); }
};

Vocabulary read_vocabulary(const GgufMetadata& metadata) {
  Vocabulary vocabulary{metadata.texts("tokenizer.ggml.tokens"), metadata.integers("tokenizer.ggml.token_type")};
  const std::size_t size = vocabulary.tokens.size();
  if (size == 0) damaged(metadata, "has no tokenizer.ggml.tokens");
  if (size > kMaxVocab) damaged(metadata, "has " + std::to_string(size) + " tokens");
  if (vocabulary.types.empty()) vocabulary.types.assign(size, static_cast<std::int64_t>(GgufTokenType::normal));
  if (vocabulary.types.size() != size) {
    damaged(metadata,
            "has " + std::to_string(size) + " tokens, but " + std::to_string(vocabulary.types.size()) + " types");
  }
  for (const std::string_view token : vocabulary.tokens) {
    if (!utf8_is_valid(token)) damaged(metadata, "token " + quote_name(token) + " is not valid UTF-8");
  }
  return vocabulary;
}

Json vocabulary_json(const Vocabulary& vocabulary) {
  Json json = Json::object();
  for (std::size_t id = 0; id < vocabulary.tokens.size(); ++id) json.emplace(std::string(vocabulary.tokens[id]), id);
  return json;
}

// Phi-3's special tokens take the white space after them, all but three; GGUF has no place to say so.
bool strips_right(std::string_view architecture, std::string_view token) {
  return architecture == "phi3" && token != "<unk>" && token != "<s>" && token != "<|endoftext|>";
}

Json added_tokens(const GgufMetadata& metadata, const Vocabulary& vocabulary) {
  const std::string_view architecture = metadata.text("general.architecture").value_or("");
  Json added = Json::array();
  for (std::size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    const GgufTokenType type = vocabulary.type(id);
    const bool special = type == GgufTokenType::control || type == GgufTokenType::unknown;
    if (vocabulary.tokens[id].empty() || (!special && type != GgufTokenType::user_defined)) continue;
    added.push_back({{"id", id},
                     {"content", vocabulary.tokens[id]},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", strips_right(architecture, vocabulary.tokens[id])},
                     {"normalized", false},
                     {"special", special}});
  }
  return added;
}

std::optional<std::string_view> token_of(const GgufMetadata& metadata, const Vocabulary& vocabulary, const char* key) {
  const auto id = metadata.integer(key);
  if (!id) return std::nullopt;
  if (*id < 0 || *id >= static_cast<std::int64_t>(vocabulary.tokens.size())) {
    damaged(metadata, std::string(key) + " is " + std::to_string(*id) + ", outside the vocabulary of " +
                          std::to_string(vocabulary.tokens.size()));
  }
  return vocabulary.tokens[static_cast<std::size_t>(*id)];
}

// --- SentencePiece ---

Json sentencepiece_normalizer(bool add_prefix) {
  Json steps = Json::array();
  if (add_prefix) steps.push_back({{"type", "Prepend"}, {"prepend", kSpace}});
  steps.push_back({{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kSpace}});
  return {{"type", "Sequence"}, {"normalizers", steps}};
}

Json sentencepiece_decoder(bool add_prefix) {
  Json steps = {{{"type", "Replace"}, {"pattern", {{"String", kSpace}}}, {"content", " "}},
                {{"type", "ByteFallback"}},
                {{"type", "Fuse"}}};
  if (add_prefix) steps.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  return {{"type", "Sequence"}, {"decoders", steps}};
}

Json bpe_json(const Vocabulary& vocabulary, Json merges) {
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", nullptr},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", false},
          {"byte_fallback", false},
          {"ignore_merges", false},
          {"vocab", vocabulary_json(vocabulary)},
          {"merges", std::move(merges)}};
}

std::optional<std::string_view> unknown_token(const GgufMetadata& metadata, const Vocabulary& vocabulary) {
  if (const auto token = token_of(metadata, vocabulary, "tokenizer.ggml.unknown_token_id")) return token;
  for (std::size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    if (vocabulary.type(id) == GgufTokenType::unknown) return vocabulary.tokens[id];
  }
  return std::nullopt;
}

Json sentencepiece_json(const GgufMetadata& metadata, const Vocabulary& vocabulary) {
  const std::vector<double> scores = metadata.numbers("tokenizer.ggml.scores");
  if (scores.size() != vocabulary.tokens.size()) {
    damaged(metadata, "has " + std::to_string(vocabulary.tokens.size()) + " tokens, but " +
                          std::to_string(scores.size()) + " scores");
  }
  if (metadata.flag("tokenizer.ggml.remove_extra_whitespaces").value_or(false)) {
    throw Error(ErrorCode::unsupported, metadata.path() + ": tokenizer.ggml.remove_extra_whitespaces is set",
                "run the original checkpoint with its tokenizer.json");
  }
  Json merges = Json::array();
  for (const auto& [left, right] : merges_from_scores(vocabulary.tokens, scores, vocabulary.types)) {
    merges.push_back({left, right});
  }
  Json model = bpe_json(vocabulary, std::move(merges));
  if (const auto unknown = unknown_token(metadata, vocabulary)) model["unk_token"] = *unknown;
  model["fuse_unk"] = true;
  model["byte_fallback"] = std::find(vocabulary.types.begin(), vocabulary.types.end(),
                                     static_cast<std::int64_t>(GgufTokenType::byte)) != vocabulary.types.end();
  const bool add_prefix = metadata.flag("tokenizer.ggml.add_space_prefix").value_or(true);
  return {{"normalizer", sentencepiece_normalizer(add_prefix)},
          {"pre_tokenizer", nullptr},
          {"decoder", sentencepiece_decoder(add_prefix)},
          {"model", std::move(model)}};
}

// --- byte-level BPE ---

Json byte_level_json(const GgufMetadata& metadata, const Vocabulary& vocabulary) {
  const GgufPre& row = gguf_pre(metadata);
  Json merges = Json::array();
  for (const std::string_view merge : metadata.texts("tokenizer.ggml.merges")) {
    // A token may begin with a space only where it is not byte-level, so the first space after it separates.
    const auto space = merge.find(' ', 1);
    if (space == merge.npos || space + 1 == merge.size() || !utf8_is_valid(merge)) {
      damaged(metadata, "merge " + quote_name(merge) + " is not two tokens");
    }
    merges.push_back({merge.substr(0, space), merge.substr(space + 1)});
  }
  Json model = bpe_json(vocabulary, std::move(merges));
  model["ignore_merges"] = row.ignore_merges;
  return {{"normalizer", row.nfc ? Json{{"type", "NFC"}} : Json(nullptr)},
          {"pre_tokenizer", row.pre_tokenizer()},
          {"decoder", gguf_byte_level(true)},
          {"model", std::move(model)}};
}

std::string_view tokenizer_kind(const GgufMetadata& metadata) {
  const std::string_view kind = metadata.require_text("tokenizer.ggml.model");
  if (kind == "llama" || kind == "gpt2") return kind;
  throw Error(ErrorCode::unsupported, metadata.path() + ": tokenizer.ggml.model is " + quote_name(kind),
              "Bittern reads llama (SentencePiece BPE) and gpt2 (byte-level BPE)");
}

}  // namespace

std::vector<std::pair<std::string_view, std::string_view>> merges_from_scores(
    const std::vector<std::string_view>& tokens, const std::vector<double>& scores,
    const std::vector<std::int64_t>& types) {
  struct Merge {
    double score;
    std::size_t left, right;
    std::string_view l, r;
  };
  std::unordered_map<std::string_view, std::size_t> ids;
  for (std::size_t id = 0; id < tokens.size(); ++id) ids.emplace(tokens[id], id);
  std::vector<Merge> merges;
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    const auto type = static_cast<GgufTokenType>(types[id]);
    if (type != GgufTokenType::normal && type != GgufTokenType::user_defined) continue;
    const std::string_view token = tokens[id];
    for (std::size_t cut = 1; cut < token.size(); ++cut) {
      if ((static_cast<unsigned char>(token[cut]) & 0xC0U) == 0x80U) continue;  // inside a character
      const auto left = ids.find(token.substr(0, cut)), right = ids.find(token.substr(cut));
      if (left == ids.end() || right == ids.end()) continue;
      merges.push_back({scores[id], left->second, right->second, left->first, right->first});
    }
  }
  std::stable_sort(merges.begin(), merges.end(), [](const Merge& a, const Merge& b) {
    if (a.score != b.score) return a.score > b.score;
    return std::pair(a.left, a.right) < std::pair(b.left, b.right);
  });
  std::vector<std::pair<std::string_view, std::string_view>> pairs;
  pairs.reserve(merges.size());
  for (const Merge& merge : merges) pairs.emplace_back(merge.l, merge.r);
  return pairs;
}

Json gguf_tokenizer_json(const GgufMetadata& metadata) {
  const Vocabulary vocabulary = read_vocabulary(metadata);
  Json json = tokenizer_kind(metadata) == "llama" ? sentencepiece_json(metadata, vocabulary)
                                                  : byte_level_json(metadata, vocabulary);
  json["version"] = "1.0";
  json["truncation"] = json["padding"] = json["post_processor"] = nullptr;
  json["added_tokens"] = added_tokens(metadata, vocabulary);
  return json;
}

Json gguf_tokenizer_config(const GgufMetadata& metadata) {
  const Vocabulary vocabulary = read_vocabulary(metadata);
  const bool sentencepiece = tokenizer_kind(metadata) == "llama";
  Json config = {{"clean_up_tokenization_spaces", false}};
  for (const auto& [key, name] : {std::pair{"tokenizer.ggml.bos_token_id", "bos_token"},
                                  {"tokenizer.ggml.eos_token_id", "eos_token"},
                                  {"tokenizer.ggml.padding_token_id", "pad_token"},
                                  {"tokenizer.ggml.unknown_token_id", "unk_token"}}) {
    if (const auto token = token_of(metadata, vocabulary, key)) config[name] = *token;
  }
  const bool default_bos = sentencepiece || gguf_pre(metadata).add_bos;
  config["add_bos_token"] = metadata.flag("tokenizer.ggml.add_bos_token").value_or(default_bos);
  config["add_eos_token"] = metadata.flag("tokenizer.ggml.add_eos_token").value_or(false);
  if (const auto chat_template = metadata.text("tokenizer.chat_template")) config["chat_template"] = *chat_template;
  return config;
}

}  // namespace bittern
