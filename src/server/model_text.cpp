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

}  // namespace bittern::server
