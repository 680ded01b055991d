// From ModelFiles to the text layer, which knows bytes by name and not where they come from.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "tensor/model_files.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace bittern::server {

/// What text::Tokenizer::load and text::ChatTemplate::load read files with; `files` must outlive it.
text::FileReader file_reader(const ModelFiles& files);
/// Errors as text::Tokenizer::load throws them.
std::unique_ptr<text::Tokenizer> load_tokenizer(const ModelFiles& files);
/// The checkpoint's chat template, or `override_source` in its place; null when there is neither. Errors as
/// text::ChatTemplate throws them.
std::unique_ptr<text::ChatTemplate> load_chat_template(const ModelFiles& files, const text::Tokenizer& tokenizer,
                                                       const std::optional<std::string>& override_source);

}  // namespace bittern::server
