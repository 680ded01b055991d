// Text from model files.
#include "server/model_text.h"

namespace bittern::server {

text::FileReader file_reader(const ModelFiles& files) {
  return [&files](std::string_view name) -> std::optional<std::string> {
    const auto file = files.find(name);
    return file ? std::optional<std::string>(file->text()) : std::nullopt;
  };
}

std::unique_ptr<text::Tokenizer> load_tokenizer(const ModelFiles& files) {
  return text::Tokenizer::load(files.origin(), file_reader(files));
}

std::unique_ptr<text::ChatTemplate> load_chat_template(const ModelFiles& files, const text::Tokenizer& tokenizer,
                                                       const std::optional<std::string>& override_source) {
  return text::ChatTemplate::load_if_any(tokenizer, file_reader(files), override_source);
}

}  // namespace bittern::server
