// One row a name. Regexes and steps are those of the models' own tokenizer.json, flags those of llama.cpp.
#include "tensor/gguf_pre.h"

#include <bittern/error.h>

#include <algorithm>
#include <array>

#include "base/strings.h"
#include "tensor/quote_name.h"

namespace bittern {
namespace {

Json digits(bool each_alone) { return {{"type", "Digits"}, {"individual_digits", each_alone}}; }

Json isolated(const char* regex) {
  return {{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}, {"invert", false}};
}

// Each step cuts what the one before it left.
Json in_steps(Json steps) {
  steps.push_back(gguf_byte_level(false));
  return {{"type", "Sequence"}, {"pretokenizers", std::move(steps)}};
}

Json by_regex(const char* regex) { return in_steps(Json::array({isolated(regex)})); }

Json single_digits() { return {{"type", "Sequence"}, {"pretokenizers", {digits(true), gguf_byte_level(true)}}}; }

constexpr const char* kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kTekken = R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
                                R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
                                R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kGpt4o =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kSeedCoder =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kDeepseek3 =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+)"
    "|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+";
constexpr const char* kDeepseekHan = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+";
// Letters with a case. Escapes stand for characters that editors compose into others.
constexpr const char* kDeepseekLetters =
    R"(\s?[)"
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-"
    "ὅὈ-"
    "Ὅὐ-"
    "ὗὙὛ"
    "ὝὟ-\u1f7dᾀ-ᾴᾶ-ᾼ\u1fbeῂ-ῄῆ-ῌῐ-\u1fd3ῖ-\u1fdbῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-"
    "ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-"
    "𐳲𑢠-"
    "𑣟𞤀-"
    "𞥃"
    "]+";
constexpr const char* kDeepseekMarks = "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+";

Json deepseek_llm() {
  return in_steps({isolated("[\r\n]"), isolated(kDeepseekLetters), isolated(kDeepseekMarks), isolated("\\s+$"),
                   isolated(kDeepseekHan), digits(true)});
}

Json deepseek_coder() {
  return in_steps(
      {isolated("[\r\n]"), isolated("\\s?\\p{L}+"), isolated("\\s?\\p{P}+"), isolated(kDeepseekHan), digits(true)});
}

Json deepseek_v3() {
  return in_steps(
      {isolated("\\p{N}{1,3}"), isolated("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"), isolated(kDeepseek3)});
}

// The first row of equal ones is what a file is written with.
constexpr std::array kPre = {
    GgufPre{"llama-bpe", [] { return by_regex(kLlama3); }, true, false, true},
    GgufPre{"llama3", [] { return by_regex(kLlama3); }, true, false, true},
    GgufPre{"llama-v3", [] { return by_regex(kLlama3); }, true, false, true},
    GgufPre{"falcon3", [] { return by_regex(kLlama3); }, true, false, true},
    GgufPre{"smaug-bpe", [] { return by_regex(kLlama3); }, false, false, false},
    GgufPre{"dbrx", [] { return by_regex(kLlama3); }, false, false, false},
    GgufPre{"qwen2", [] { return by_regex(kQwen2); }, false, true, false},
    GgufPre{"deepseek-r1-qwen", [] { return by_regex(kQwen2); }, false, true, false},
    GgufPre{"stablelm2", [] { return by_regex(kQwen2); }, false, false, false},
    GgufPre{"megrez", [] { return by_regex(kQwen2); }, false, false, false},
    GgufPre{"tekken", [] { return by_regex(kTekken); }, true, false, true},
    GgufPre{"gpt-4o", [] { return by_regex(kGpt4o); }, false, false, false},
    GgufPre{"seed-coder", [] { return by_regex(kSeedCoder); }, false, false, false},
    GgufPre{"deepseek-llm", deepseek_llm, false, false, false},
    GgufPre{"deepseek-coder", deepseek_coder, false, false, false},
    GgufPre{"deepseek-v3", deepseek_v3, false, false, false},
    GgufPre{"gpt-2", [] { return gguf_byte_level(true); }, false, false, false},
    GgufPre{"olmo", [] { return gguf_byte_level(true); }, false, false, false},
    GgufPre{"mpt", [] { return gguf_byte_level(true); }, false, false, false},
    GgufPre{"phi-2", [] { return gguf_byte_level(true); }, false, false, false},
    GgufPre{"trillion", [] { return gguf_byte_level(true); }, false, false, false},
    GgufPre{"a.x-4.0", [] { return gguf_byte_level(true); }, false, false, false},
    GgufPre{"smollm", single_digits, false, false, false},
    GgufPre{"starcoder", single_digits, false, false, false},
    GgufPre{"refact", single_digits, false, false, false},
    GgufPre{"codeshell", single_digits, false, false, false},
    GgufPre{"minerva-7b", single_digits, false, false, false},
    GgufPre{"command-r", single_digits, false, false, true},
};

// What differs between exports of the same rule without changing ids.
Json without_offsets(Json value) {
  if (value.is_object()) value.erase("trim_offsets");
  for (Json& part : value) {
    if (part.is_structured()) part = without_offsets(part);
  }
  return value;
}

}  // namespace

Json gguf_byte_level(bool with_gpt2_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", with_gpt2_regex}};
}

const GgufPre& gguf_pre(const GgufMetadata& metadata) {
  const std::string name(metadata.text("tokenizer.ggml.pre").value_or(""));
  const auto found = std::find_if(kPre.begin(), kPre.end(), [&](const GgufPre& row) { return row.name == name; });
  if (found != kPre.end()) return *found;
  const std::vector<std::string> known = gguf_pre_names();
  throw Error(ErrorCode::unsupported,
              metadata.path() + ": " +
                  (name.empty() ? std::string("has no tokenizer.ggml.pre, which says how texts are cut")
                                : "tokenizer.ggml.pre is " + quote_name(name) + ", which Bittern does not know"),
              "known: " + join(known, ", ") + "; or run the original checkpoint with its tokenizer.json");
}

std::optional<std::string> gguf_pre_name(const Json& tokenizer_json) {
  const Json pre = without_offsets(tokenizer_json.value("pre_tokenizer", Json()));
  const Json normalizer = tokenizer_json.value("normalizer", Json());
  const bool ignore_merges = tokenizer_json.value("model", Json::object()).value("ignore_merges", false);
  for (const GgufPre& row : kPre) {
    const bool same_normalizer = row.nfc ? normalizer == Json{{"type", "NFC"}} : normalizer.is_null();
    if (same_normalizer && row.ignore_merges == ignore_merges && without_offsets(row.pre_tokenizer()) == pre) {
      return std::string(row.name);
    }
  }
  return std::nullopt;
}

std::vector<std::string> gguf_pre_names() {
  std::vector<std::string> names;
  for (const GgufPre& row : kPre) names.emplace_back(row.name);
  return names;
}

}  // namespace bittern
