// Finds, compiles and renders chat templates through the Rust bridge, which holds the template engine and the
// separation of trusted and untrusted text (bridge/src/provenance.rs). Here are only the files and the settings.
#include "text/chat_template.h"

#include <ctime>
#include <utility>

#include "text/bridge_call.h"

namespace bittern::text {
namespace {

constexpr const char* kDefault = "default";
constexpr const char* kToolUse = "tool_use";

OrderedJson read_object(const std::string& origin, const FileReader& read, std::string_view name) {
  const std::optional<std::string> bytes = read(name);
  if (!bytes) return OrderedJson::object();
  Json value = parse_json(*bytes, origin + "/" + std::string(name), {.code = ErrorCode::invalid_checkpoint});
  return value.is_object() ? OrderedJson(std::move(value)) : OrderedJson::object();
}

/// "chat_template" of a settings file: one text, or a list of {"name", "template"}.
std::map<std::string, std::string> templates_of(const OrderedJson& settings, const std::string& what) {
  const auto found = settings.find("chat_template");
  if (found == settings.end() || found->is_null()) return {};
  if (found->is_string()) return {{kDefault, found->get<std::string>()}};
  std::map<std::string, std::string> sources;
  const auto text_of = [](const OrderedJson& entry, const char* key) {
    const auto value = entry.is_object() ? entry.find(key) : entry.end();
    return entry.is_object() && value != entry.end() && value->is_string() ? value->get<std::string>() : std::string();
  };
  if (found->is_array()) {
    for (const OrderedJson& entry : *found) sources[text_of(entry, "name")] = text_of(entry, "template");
  }
  if (sources.empty() || sources.contains("")) {
    throw Error(ErrorCode::invalid_checkpoint, what + ": chat_template is neither a text nor a list of named templates",
                "use --chat-template FILE");
  }
  return sources;
}

/// Seconds since 1970 as a clock on the wall would count them.
int64_t local_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  localtime_r(&now, &parts);
  return static_cast<int64_t>(now) + parts.tm_gmtoff;
}

/// The variables that transformers gives to a template besides the request: the special tokens, by role.
std::string settings_json(const Tokenizer& tokenizer, const OrderedJson& config) {
  OrderedJson settings = OrderedJson::object();
  for (const char* key : {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}) {
    const auto found = config.find(key);
    if (found == config.end()) continue;
    if (found->is_string()) settings[key] = *found;
    if (found->is_object() && found->contains("content")) settings[key] = found->at("content");
  }
  const auto by_id = [&](const char* key, std::optional<int32_t> id) {
    const auto text = id ? tokenizer.token(*id) : std::nullopt;
    if (text && !settings.contains(key)) settings[key] = *text;
  };
  by_id("bos_token", tokenizer.special_ids().bos);
  by_id("eos_token", tokenizer.special_ids().eos);
  by_id("pad_token", tokenizer.special_ids().pad);
  by_id("unk_token", tokenizer.special_ids().unk);
  return settings.dump();
}

std::string request_json(const ChatRequest& request) {
  OrderedJson variables = request.extra.is_object() ? request.extra : OrderedJson::object();
  variables["messages"] = request.messages;
  variables["tools"] = request.tools;
  variables["add_generation_prompt"] = request.add_generation_prompt;
  // Text that is not UTF-8 is replaced here: the template engine and JSON know only Unicode.
  return variables.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

}  // namespace

struct ChatTemplate::Compiled {
  BridgeTemplate* bridge = nullptr;
  ~Compiled() { bittern_bridge_template_free(bridge); }
};

ChatTemplate::ChatTemplate(const Tokenizer& tokenizer, const FileReader& read,
                           std::optional<std::string> override_source)
    : origin_(tokenizer.origin()) {
  find(read, std::move(override_source));
  settings_ = settings_json(tokenizer, read_object(origin_, read, "tokenizer_config.json"));
  for (const auto& [name, source] : sources_) {
    if (name == kDefault || name == kToolUse) add(name, source, tokenizer);
  }
}

std::unique_ptr<ChatTemplate> ChatTemplate::load_if_any(const Tokenizer& tokenizer, const FileReader& read,
                                                        std::optional<std::string> override_source) {
  try {
    return std::make_unique<ChatTemplate>(tokenizer, read, std::move(override_source));
  } catch (const Error& error) {
    if (error.code() == ErrorCode::not_found) return nullptr;
    throw;
  }
}

ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;

void ChatTemplate::find(const FileReader& read, std::optional<std::string> override_source) {
  if (override_source) {
    found_in_ = "--chat-template";
    sources_[kDefault] = std::move(*override_source);
    return;
  }
  if (auto source = read("chat_template.jinja")) {
    found_in_ = "chat_template.jinja";
    sources_[kDefault] = std::move(*source);
    return;
  }
  for (const char* name : {"tokenizer_config.json", "chat_template.json"}) {
    sources_ = templates_of(read_object(origin_, read, name), origin_ + "/" + name);
    if (sources_.empty()) continue;
    found_in_ = name;
    if (sources_.contains(kDefault)) return;
    throw Error(ErrorCode::not_found, origin_ + "/" + name + " has no chat template named 'default'",
                "use --chat-template FILE");
  }
  throw Error(ErrorCode::not_found, origin_ + " has no chat template",
              "it may be a base model; to chat with it anyway use --chat-template FILE");
}

void ChatTemplate::add(const std::string& name, std::string source, const Tokenizer& tokenizer) {
  const bool ours = found_in_ != "--chat-template";
  const std::string what = ours ? origin_ + "/" + found_in_ : found_in_;
  const ErrorCode code = ours ? ErrorCode::invalid_checkpoint : ErrorCode::invalid_argument;
  auto compiled = std::make_unique<Compiled>();
  call_bridge(code, what, bittern_bridge_template_new, slice(source), &compiled->bridge);
  std::vector<BridgeSlice> specials;
  for (const AddedToken& token : tokenizer.added_tokens()) {
    if (token.special) specials.push_back(slice(token.content));
  }
  call_bridge(code, what, bittern_bridge_template_protect, compiled->bridge, specials.data(), specials.size(),
              slice(tokenizer.lookalikes()), tokenizer.specials_are_exact());
  compiled_[name] = std::move(compiled);
}

const ChatTemplate::Compiled& ChatTemplate::pick(bool with_tools) const {
  const auto tool_use = compiled_.find(kToolUse);
  return with_tools && tool_use != compiled_.end() ? *tool_use->second : *compiled_.at(kDefault);
}

const std::string& ChatTemplate::source(bool with_tools) const {
  return sources_.at(with_tools && sources_.contains(kToolUse) ? kToolUse : kDefault);
}

Prompt ChatTemplate::render(const ChatRequest& request) const {
  const std::string variables = request_json(request);
  const bool with_tools = !request.tools.is_null() && !request.tools.empty();
  Owned<BridgeBytes> text;
  Owned<BridgeRanges> untrusted;
  const auto [done, failure] =
      try_bridge(bittern_bridge_template_render, pick(with_tools).bridge, slice(settings_), slice(variables),
                 request.now.value_or(local_now()), text.out(), untrusted.out());
  if (!done) {
    if (failure.kind == "Panic") throw Error(ErrorCode::internal, "chat template: " + failure.message);
    const std::string kind = failure.kind == "TemplateError" ? "" : failure.kind + ": ";
    throw Error(ErrorCode::invalid_argument, "the chat template refused the messages: " + kind + failure.message);
  }
  Prompt prompt{to_string(text), {}};
  for (const BridgeRange& range : untrusted) prompt.untrusted.push_back({range.begin, range.end});
  return prompt;
}

}  // namespace bittern::text
