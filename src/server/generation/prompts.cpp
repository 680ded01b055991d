// The forms that the OpenAI API allows for "prompt" and "input".
#include "server/generation/prompts.h"

#include <fmt/core.h>

namespace bittern::server {
namespace {

constexpr std::size_t kMostPrompts = 2048;

class PromptReader {
 public:
  PromptReader(std::string key, const LoadedModel& model, bool add_special, bool skip_special)
      : key_(std::move(key)), model_(model), add_special_(add_special), skip_special_(skip_special) {}

  Prompts read(const OrderedJson& value) {
    if (value.is_string()) {
      add_text(value);
    } else if (!value.is_array()) {
      refuse_field(key_,
                   fmt::format("{} must be a text, a list of texts, a list of token ids, or a list of such lists, "
                               "but it is {}",
                               key_, describe_json(Json(value))));
    } else if (value.empty()) {
      refuse_field(key_, key_ + " is empty");
    } else if (value[0].is_number()) {
      add_ids(value, key_);
    } else {
      read_list(value);
    }
    return std::move(prompts_);
  }

 private:
  void read_list(const OrderedJson& list) {
    if (list.size() > kMostPrompts) {
      refuse_field(key_, fmt::format("{} has {} entries, but at most {} are allowed", key_, list.size(), kMostPrompts));
    }
    for (std::size_t i = 0; i < list.size(); ++i) {
      const std::string param = fmt::format("{}[{}]", key_, i);
      if (list[i].is_string()) {
        add_text(list[i]);
      } else if (list[i].is_array()) {
        add_ids(list[i], param);
      } else {
        refuse_field(param, fmt::format("{} must be a text or a list of token ids, but it is {}", param,
                                        describe_json(Json(list[i]))));
      }
    }
  }

  void add_text(const OrderedJson& value) {
    const auto& text = value.get_ref<const std::string&>();
    prompts_.tokens.push_back(model_.tokenizer().encode(text, {.add_special = add_special_, .parse_special = true}));
    prompts_.texts.push_back(text);
  }

  void add_ids(const OrderedJson& value, const std::string& param) {
    std::vector<std::int32_t> ids;
    for (std::size_t i = 0; i < value.size(); ++i) ids.push_back(token(value[i], fmt::format("{}[{}]", param, i)));
    prompts_.texts.push_back(model_.tokenizer().decode(ids, skip_special_));
    prompts_.tokens.push_back(std::move(ids));
  }

  std::int32_t token(const OrderedJson& value, const std::string& param) const {
    const std::int64_t vocabulary = model_.tokenizer().vocab_size();
    if (!value.is_number_integer()) {
      refuse_field(param, fmt::format("{} must be a token id, but it is {}", param, describe_json(Json(value))));
    }
    const auto id = value.get<std::int64_t>();
    if (id >= 0 && id < vocabulary) return static_cast<std::int32_t>(id);
    refuse_field(param, fmt::format("{} is {}, but the vocabulary has {} tokens", param, id, vocabulary));
  }

  const std::string key_;
  const LoadedModel& model_;
  bool add_special_, skip_special_;
  Prompts prompts_;
};

}  // namespace

Prompts read_prompts(Fields& fields, std::string_view key, const LoadedModel& model, bool add_special,
                     bool skip_special) {
  return PromptReader(std::string(key), model, add_special, skip_special).read(fields.require<OrderedJson>(key));
}

}  // namespace bittern::server
