// tokenizer.json as GGUF metadata. Only what reads back as the same tokenizer is written; the rest is refused, because
// a program that cuts texts a little differently gives a model's answers a little worse without anybody noticing.
#include <bittern/error.h>

#include <algorithm>
#include <map>

#include "base/json.h"
#include "tensor/gguf_pre.h"
#include "tensor/gguf_tokenizer.h"
#include "tensor/gguf_writer.h"
#include "tensor/quote_name.h"

namespace bittern {
namespace {

constexpr std::string_view kSpace = "\u2581";

[[noreturn]] void refuse(const ModelFiles& files, const std::string& reason) {
  throw Error(ErrorCode::unsupported, files.origin() + ": the tokenizer cannot be written to GGUF: " + reason);
}

Json read_object(const ModelFiles& files, std::string_view name) {
  const auto file = files.find(name);
  if (!file) return Json::object();
  Json json = parse_json(file->text(), file->path, {.code = ErrorCode::invalid_checkpoint});
  if (!json.is_object()) throw Error(ErrorCode::invalid_checkpoint, file->path + " is not a JSON object");
  return json;
}

struct Tokens {
  std::vector<std::string> texts;
  std::vector<std::int32_t> types;
  std::map<std::string, std::int32_t, std::less<>> ids;

  void set(const ModelFiles& files, std::int64_t id, const std::string& text, GgufTokenType type) {
    if (id < 0 || id >= static_cast<std::int64_t>(texts.size())) {
      refuse(files, "token " + quote_name(text) + " has id " + std::to_string(id) + ", but the embedding has " +
                        std::to_string(texts.size()) + " rows");
    }
    texts[static_cast<std::size_t>(id)] = text;
    types[static_cast<std::size_t>(id)] = static_cast<std::int32_t>(type);
    ids[text] = static_cast<std::int32_t>(id);
  }
};

bool is_byte_token(std::string_view token) {
  return token.size() == 6 && token.starts_with("<0x") && token.back() == '>';
}

Tokens read_tokens(const ModelFiles& files, const Json& json, std::int64_t vocab) {
  Tokens tokens;
  tokens.types.assign(static_cast<std::size_t>(vocab), static_cast<std::int32_t>(GgufTokenType::unused));
  for (std::int64_t id = 0; id < vocab; ++id) tokens.texts.push_back("[PAD" + std::to_string(id) + "]");
  const Json& model = json.at("model");
  const bool bytes = get_or(model, "byte_fallback", false, "tokenizer.json");
  const Json entries = require<Json>(model, "vocab", "tokenizer.json");
  for (const auto& [token, id] : entries.items()) {
    const auto type = bytes && is_byte_token(token) ? GgufTokenType::byte : GgufTokenType::normal;
    tokens.set(files, json_as<std::int64_t>(id, "tokenizer.json: vocab"), token, type);
  }
  const std::string unknown = get_or<std::string>(model, "unk_token", "", "tokenizer.json");
  for (const Json& added : json.value("added_tokens", Json::array())) {
    const auto content = require<std::string>(added, "content", "tokenizer.json: added_tokens");
    const bool special = get_or(added, "special", false);
    const auto type = content == unknown ? GgufTokenType::unknown
                      : special          ? GgufTokenType::control
                                         : GgufTokenType::user_defined;
    tokens.set(files, require<std::int64_t>(added, "id", "tokenizer.json: added_tokens"), content, type);
  }
  return tokens;
}

// Merges are pairs, or texts with a space between in older files.
std::vector<std::string> read_merges(const Json& model) {
  std::vector<std::string> merges;
  for (const Json& merge : require<Json>(model, "merges", "tokenizer.json")) {
    if (merge.is_array() && merge.size() == 2) {
      merges.push_back(json_as<std::string>(merge[0], "merge") + " " + json_as<std::string>(merge[1], "merge"));
    } else {
      merges.push_back(json_as<std::string>(merge, "tokenizer.json: merges"));
    }
  }
  return merges;
}

void add_byte_level(const ModelFiles& files, const Json& json, GgufKeyValues& metadata) {
  const auto pre = gguf_pre_name(json);
  if (!pre) refuse(files, "its way of cutting texts (pre_tokenizer, normalizer, ignore_merges) has no name in GGUF");
  metadata.text("tokenizer.ggml.model", "gpt2");
  metadata.text("tokenizer.ggml.pre", *pre);
  metadata.texts("tokenizer.ggml.merges", read_merges(json.at("model")));
}

// Whether texts begin with a space that the tokenizer adds. Other rules than SentencePiece's are refused.
bool adds_space(const ModelFiles& files, const Json& json) {
  const Json replace = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kSpace}};
  const Json prepend = {{"type", "Prepend"}, {"prepend", kSpace}};
  const Json normalizer = json.value("normalizer", Json());
  const Json plain = {{"type", "Sequence"}, {"normalizers", {replace}}};
  const Json with_space = {{"type", "Sequence"}, {"normalizers", {prepend, replace}}};
  if (!json.value("pre_tokenizer", Json()).is_null()) refuse(files, "a pre_tokenizer beside SentencePiece's rules");
  if (normalizer == with_space) return true;
  if (normalizer == plain || normalizer == replace) return false;
  refuse(files, "its normalizer is not SentencePiece's");
}

// A piece's score is minus the rank of the first merge that makes it, so that merging by scores keeps the order.
std::vector<float> scores_of(const ModelFiles& files, const Tokens& tokens, const std::vector<std::string>& merges) {
  constexpr float kNever = -1e9F;
  std::vector<float> scores(tokens.texts.size(), kNever);
  float rank = 0;
  for (const std::string& merge : merges) {
    std::string piece = merge;
    piece.erase(merge.find(' ', 1), 1);
    const auto id = tokens.ids.find(piece);
    if (id == tokens.ids.end()) refuse(files, "merge " + quote_name(merge) + " makes no token");
    float& score = scores[static_cast<std::size_t>(id->second)];
    if (score == kNever) score = -(rank++);
  }
  return scores;
}

void check_merges(const ModelFiles& files, const Tokens& tokens, const std::vector<float>& scores,
                  const std::vector<std::string>& merges) {
  const std::vector<std::string_view> texts(tokens.texts.begin(), tokens.texts.end());
  const std::vector<double> wide(scores.begin(), scores.end());
  const std::vector<std::int64_t> types(tokens.types.begin(), tokens.types.end());
  const auto again = merges_from_scores(texts, wide, types);
  // Ties of one piece may come in another order, which changes nothing: they make the same piece of other pairs.
  std::vector<std::string> left = merges, right;
  for (const auto& [l, r] : again) right.push_back(std::string(l) + " " + std::string(r));
  std::sort(left.begin(), left.end());
  std::sort(right.begin(), right.end());
  if (left != right) refuse(files, "its merges are not those of SentencePiece scores");
}

void add_sentencepiece(const ModelFiles& files, const Json& json, const Tokens& tokens, GgufKeyValues& metadata) {
  const bool space = adds_space(files, json);
  const std::vector<std::string> merges = read_merges(json.at("model"));
  const std::vector<float> scores = scores_of(files, tokens, merges);
  check_merges(files, tokens, scores, merges);
  metadata.text("tokenizer.ggml.model", "llama");
  metadata.text("tokenizer.ggml.pre", "default");
  metadata.numbers("tokenizer.ggml.scores", scores);
  metadata.flag("tokenizer.ggml.add_space_prefix", space);
}

bool contains_type(const Json& node, std::string_view type) {
  if (!node.is_structured()) return false;
  if (node.is_object() && node.value("type", "") == type) return true;
  return std::any_of(node.begin(), node.end(), [&](const Json& part) { return contains_type(part, type); });
}

// --- ids with a role ---

std::optional<std::int32_t> role_id(const Json& settings, const Json& config, const Tokens& tokens, const char* role) {
  const auto found = settings.find(role);
  if (found != settings.end() && !found->is_null()) {
    const std::string text = found->is_object() ? found->value("content", "") : found->get<std::string>();
    if (const auto id = tokens.ids.find(text); id != tokens.ids.end()) return id->second;
  }
  const Json id = config.value(std::string(role) + "_id", Json());
  if (id.is_number_integer()) return id.get<std::int32_t>();
  return id.is_array() && !id.empty() ? std::optional(id[0].get<std::int32_t>()) : std::nullopt;
}

// The single template of a post-processor, or null.
Json post_template(const Json& processor) {
  if (!processor.is_structured()) return nullptr;
  if (processor.is_object() && processor.value("type", "") == "TemplateProcessing")
    return processor.value("single", Json());
  for (const Json& part : processor) {
    if (const Json found = post_template(part); !found.is_null()) return found;
  }
  return nullptr;
}

void add_flags(const Json& settings, const Json& json, GgufKeyValues& metadata) {
  const Json single = post_template(json.value("post_processor", Json()));
  const bool some = single.is_array() && single.size() > 1;
  const bool first = some && single.front().contains("SpecialToken");
  const bool last = some && single.back().contains("SpecialToken");
  const bool by_settings = settings.contains("add_bos_token") || settings.contains("add_eos_token");
  const auto flag = [&](const char* key, bool otherwise) {
    return by_settings ? settings.contains(key) && settings.at(key) == true : otherwise;
  };
  metadata.flag("tokenizer.ggml.add_bos_token", flag("add_bos_token", first));
  metadata.flag("tokenizer.ggml.add_eos_token", flag("add_eos_token", last));
}

// Ids that end a generation beside eos. GGUF has names for two more.
void add_other_ends(const ModelFiles& files, std::optional<std::int32_t> eos, GgufKeyValues& metadata) {
  std::vector<std::int32_t> ends;
  for (const char* name : {"generation_config.json", "config.json"}) {
    const Json ids = read_object(files, name).value("eos_token_id", Json());
    for (const Json& id : ids.is_array() ? ids : ids.is_null() ? Json::array() : Json::array({ids})) {
      const auto value = json_as<std::int32_t>(id, std::string(name) + ": eos_token_id");
      if (value != eos && std::find(ends.begin(), ends.end(), value) == ends.end()) ends.push_back(value);
    }
  }
  if (ends.size() > 2) refuse(files, "it has more than three ids that end a generation");
  if (!ends.empty()) metadata.integer("tokenizer.ggml.eot_token_id", static_cast<std::uint32_t>(ends[0]));
  if (ends.size() > 1) metadata.integer("tokenizer.ggml.eom_token_id", static_cast<std::uint32_t>(ends[1]));
}

void add_roles(const ModelFiles& files, const Json& settings, const Tokens& tokens, GgufKeyValues& metadata) {
  const Json config = read_object(files, "config.json");
  const auto add = [&](const char* role, const char* key) {
    const auto id = role_id(settings, config, tokens, role);
    if (id && *id >= 0) metadata.integer(key, static_cast<std::uint32_t>(*id));
    return id;
  };
  add("bos_token", "tokenizer.ggml.bos_token_id");
  const auto eos = add("eos_token", "tokenizer.ggml.eos_token_id");
  add("pad_token", "tokenizer.ggml.padding_token_id");
  add("unk_token", "tokenizer.ggml.unknown_token_id");
  add_other_ends(files, eos, metadata);
}

std::string chat_template(const ModelFiles& files, const Json& settings) {
  if (const auto file = files.find("chat_template.jinja")) return std::string(file->text());
  const Json source = settings.value("chat_template", Json());
  if (source.is_string()) return source.get<std::string>();
  if (!source.is_array()) return "";
  for (const Json& each : source) {
    if (each.value("name", "") == "default") return each.value("template", "");
  }
  return "";
}

}  // namespace

void add_gguf_tokenizer(const ModelFiles& files, std::int64_t vocab, GgufKeyValues& metadata) {
  const auto file = files.find("tokenizer.json");
  if (!file) refuse(files, "there is no tokenizer.json");
  const Json json = parse_json(file->text(), file->path, {.code = ErrorCode::invalid_checkpoint});
  const Json model = json.is_object() ? json.value("model", Json()) : Json();
  if (!model.is_object() || get_or<std::string>(model, "type", "BPE") != "BPE") {
    refuse(files, "its model is not BPE");
  }
  const Json settings = read_object(files, "tokenizer_config.json");
  const Tokens tokens = read_tokens(files, json, vocab);
  if (contains_type(json.value("decoder", Json()), "ByteLevel")) {
    add_byte_level(files, json, metadata);
  } else {
    add_sentencepiece(files, json, tokens, metadata);
  }
  metadata.texts("tokenizer.ggml.tokens", tokens.texts);
  metadata.integers("tokenizer.ggml.token_type", tokens.types);
  add_roles(files, settings, tokens, metadata);
  add_flags(settings, json, metadata);
  if (const std::string source = chat_template(files, settings); !source.empty()) {
    metadata.text("tokenizer.chat_template", source);
  }
}

}  // namespace bittern
