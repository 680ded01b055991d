// Tokenizer over the Rust bridge: opening the file, the ids with a role, and BOS and EOS as the settings ask for them.
// The algorithms are Hugging Face's own; only translation and settings happen here.
#include "text/tokenizer.h"

#include <algorithm>
#include <utility>

#include "base/json.h"
#include "text/bridge_call.h"

namespace bittern::text {
namespace {

/// One JSON file of a checkpoint; an empty object when it does not exist.
Json read_object(const std::string& origin, const FileReader& read, std::string_view name) {
  const std::optional<std::string> bytes = read(name);
  if (!bytes) return Json::object();
  const std::string what = origin + "/" + std::string(name);
  Json value = parse_json(*bytes, what, {.code = ErrorCode::invalid_checkpoint});
  if (!value.is_object()) throw Error(ErrorCode::invalid_checkpoint, what + " is not a JSON object");
  return value;
}

/// Settings give a token as a string or as an object with its content.
std::optional<std::string> token_text(const Json& settings, const char* key) {
  const auto found = settings.find(key);
  if (found == settings.end()) return std::nullopt;
  if (found->is_string()) return found->get<std::string>();
  if (found->is_object() && found->contains("content") && found->at("content").is_string()) {
    return found->at("content").get<std::string>();
  }
  return std::nullopt;
}

/// An id or a list of ids, as config.json writes them.
std::vector<int32_t> id_list(const Json& config, const char* key, const std::string& what) {
  const auto found = config.find(key);
  if (found == config.end() || found->is_null()) return {};
  if (found->is_array()) return json_as<std::vector<int32_t>>(*found, what + ": " + key);
  return {json_as<int32_t>(*found, what + ": " + key)};
}

/// The setting as Python sees it: present, and then true or false.
std::optional<bool> flag(const Json& settings, const char* key) {
  const auto found = settings.find(key);
  if (found == settings.end()) return std::nullopt;
  return found->is_boolean() && found->get<bool>();
}

void add_once(std::vector<int32_t>& ids, const std::vector<int32_t>& more) {
  for (const int32_t id : more) {
    if (std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
  }
}

void collect_added(void* context, uint32_t id, bool special, BridgeSlice content) {
  auto& tokens = *static_cast<std::vector<AddedToken>*>(context);
  tokens.push_back({static_cast<int32_t>(id), std::string(content.data, content.size), special});
}

std::vector<BridgeRange> bridge_ranges(std::span<const ByteRange> ranges) {
  std::vector<BridgeRange> copies;
  copies.reserve(ranges.size());
  for (const ByteRange& range : ranges) copies.push_back({range.begin, range.end});
  return copies;
}

}  // namespace

struct Tokenizer::Handle {
  BridgeTokenizer* bridge = nullptr;
  ~Handle() { bittern_bridge_tokenizer_free(bridge); }

  /// Calls the bridge about a text or an id; damaged files were refused when the handle was opened.
  template <class Function, class... Args>
  void call(const std::string& origin, Function function, Args... args) const {
    call_bridge(ErrorCode::invalid_argument, origin + ": tokenizer", function, bridge, args...);
  }
};

Tokenizer::Tokenizer(std::string origin, const FileReader& read)
    : origin_(std::move(origin)), handle_(std::make_unique<Handle>()) {
  open(read);
  size_t count = 0;
  handle_->call(origin_, bittern_bridge_tokenizer_vocab_size, &count);
  vocab_size_ = static_cast<int32_t>(count);
  handle_->call(origin_, bittern_bridge_tokenizer_added_tokens, collect_added, static_cast<void*>(&added_tokens_),
                &count);
  Owned<BridgeBytes> characters;
  handle_->call(origin_, bittern_bridge_tokenizer_lookalikes, &specials_are_exact_, characters.out());
  lookalikes_ = to_string(characters);
  read_settings(read);
}

Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

const BridgeTokenizer* Tokenizer::bridge() const { return handle_->bridge; }

void Tokenizer::open(const FileReader& read) {
  constexpr ErrorCode code = ErrorCode::invalid_checkpoint;
  if (const auto json = read("tokenizer.json")) {
    call_bridge(code, origin_ + "/tokenizer.json", bittern_bridge_tokenizer_new, slice(*json), &handle_->bridge);
    return;
  }
  const auto model = read("tokenizer.model");
  if (!model) {
    throw Error(ErrorCode::not_found, origin_ + " has neither tokenizer.json nor tokenizer.model",
                "copy the tokenizer's files from the original model into this folder");
  }
  const std::string settings = read("tokenizer_config.json").value_or("");
  const std::string added = read("added_tokens.json").value_or("");
  call_bridge(code, origin_ + "/tokenizer.model", bittern_bridge_tokenizer_from_sentencepiece, slice(*model),
              slice(settings), slice(added), &handle_->bridge);
  add_bos_ = true;  // SentencePiece models say nothing of it; transformers' classes for them do
  add_eos_ = false;
}

void Tokenizer::read_settings(const FileReader& read) {
  const Json settings = read_object(origin_, read, "tokenizer_config.json");
  const Json map = read_object(origin_, read, "special_tokens_map.json");
  const Json config = read_object(origin_, read, "config.json");
  const Json generation = read_object(origin_, read, "generation_config.json");
  const auto find = [&](const char* key, const char* config_key) -> std::optional<int32_t> {
    for (const Json* source : {&settings, &map}) {
      if (const auto text = token_text(*source, key)) {
        if (const auto id = id_of(*text)) return id;
      }
    }
    const auto ids = id_list(config, config_key, origin_ + "/config.json");
    return ids.empty() ? std::nullopt : std::optional(ids.front());
  };
  special_ids_.bos = find("bos_token", "bos_token_id");
  special_ids_.eos = find("eos_token", "eos_token_id");
  special_ids_.pad = find("pad_token", "pad_token_id");
  special_ids_.unk = find("unk_token", "unk_token_id");
  if (special_ids_.eos) add_once(special_ids_.stop, {*special_ids_.eos});
  add_once(special_ids_.stop, id_list(generation, "eos_token_id", origin_ + "/generation_config.json"));
  add_once(special_ids_.stop, id_list(config, "eos_token_id", origin_ + "/config.json"));
  // As in transformers: naming either setting replaces what tokenizer.json adds by itself.
  if (const auto wanted = flag(settings, "add_bos_token")) add_bos_ = wanted;
  if (const auto wanted = flag(settings, "add_eos_token")) add_eos_ = wanted;
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  return encode_all(text, options, false).ids;
}

std::vector<int32_t> Tokenizer::encode(const Prompt& prompt) const {
  return encode_raw(prompt.text, prompt.untrusted, false, false).ids;
}

Encoding Tokenizer::encode_with_offsets(std::string_view text, EncodeOptions options) const {
  return encode_all(text, options, true);
}

Encoding Tokenizer::encode_all(std::string_view text, EncodeOptions options, bool with_offsets) const {
  const ByteRange everything{0, text.size()};
  const std::span<const ByteRange> untrusted(&everything, options.parse_special ? 0 : 1);
  const bool by_settings = add_bos_ || add_eos_;
  Encoding encoding = encode_raw(text, untrusted, options.add_special && !by_settings, with_offsets);
  if (!options.add_special || !by_settings) return encoding;
  if (add_bos_.value_or(false) && special_ids_.bos) {
    encoding.ids.insert(encoding.ids.begin(), *special_ids_.bos);
    if (with_offsets) encoding.offsets.insert(encoding.offsets.begin(), {0, 0});
  }
  if (add_eos_.value_or(false) && special_ids_.eos) {
    encoding.ids.push_back(*special_ids_.eos);
    if (with_offsets) encoding.offsets.push_back({text.size(), text.size()});
  }
  return encoding;
}

Encoding Tokenizer::encode_raw(std::string_view text, std::span<const ByteRange> untrusted, bool from_file,
                               bool with_offsets) const {
  const std::vector<BridgeRange> ranges = bridge_ranges(untrusted);
  Owned<BridgeIds> ids;
  Owned<BridgeRanges> offsets;
  handle_->call(origin_, bittern_bridge_tokenizer_encode, slice(text), ranges.data(), ranges.size(), from_file,
                ids.out(), with_offsets ? offsets.out() : nullptr);
  Encoding encoding{{ids.begin(), ids.end()}, {}};
  for (const BridgeRange& range : offsets) encoding.offsets.push_back({range.begin, range.end});
  return encoding;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  // A negative id becomes one far outside the vocabulary, which adds nothing.
  const std::vector<uint32_t> copies(ids.begin(), ids.end());
  Owned<BridgeBytes> text;
  handle_->call(origin_, bittern_bridge_tokenizer_decode, copies.data(), copies.size(), skip_special, text.out());
  return to_string(text);
}

std::optional<std::string> Tokenizer::token(int32_t id) const { return token_of(id, false); }
std::optional<std::string> Tokenizer::token_bytes(int32_t id) const { return token_of(id, true); }

std::optional<std::string> Tokenizer::token_of(int32_t id, bool as_bytes) const {
  if (id < 0) return std::nullopt;
  bool found = false;
  Owned<BridgeBytes> token;
  handle_->call(origin_, bittern_bridge_tokenizer_token, static_cast<uint32_t>(id), as_bytes, &found, token.out());
  return found ? std::optional(to_string(token)) : std::nullopt;
}

std::optional<int32_t> Tokenizer::id_of(std::string_view token) const {
  int64_t id = -1;
  handle_->call(origin_, bittern_bridge_tokenizer_id, slice(token), &id);
  return id < 0 ? std::nullopt : std::optional(static_cast<int32_t>(id));
}

bool Tokenizer::is_special(int32_t id) const {
  const auto found = std::lower_bound(added_tokens_.begin(), added_tokens_.end(), id,
                                      [](const AddedToken& token, int32_t wanted) { return token.id < wanted; });
  return found != added_tokens_.end() && found->id == id && found->special;
}

}  // namespace bittern::text
