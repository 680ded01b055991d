// From options to a mask.
#include "guided_options.h"

#include <bittern/error.h>

#include <filesystem>

#include "base/json.h"
#include "model_loader.h"

namespace bittern::cli {
namespace {

// The name of a file that exists stands for what it holds.
std::string text_or_file(const std::string& value) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(value, ignored) ? read_text(value) : value;
}

}  // namespace

std::shared_ptr<TokenMask> GuidedOptions::mask(server::LoadedModel& model) const {
  using text::GrammarKind;
  server::GuidedDecoding& guided = model.guided();
  if (!json_schema.empty()) return guided.mask(GrammarKind::json_schema, text_or_file(json_schema));
  if (json_object) return guided.mask(GrammarKind::json_object, {});
  if (!regex.empty()) return guided.mask(GrammarKind::regex, regex);
  if (!grammar.empty()) return guided.mask(GrammarKind::lark, text_or_file(grammar));
  if (!choice.empty()) return guided.mask(GrammarKind::choice, Json(choice).dump());
  return nullptr;
}

void add_guided_options(CLI::App& command, GuidedOptions& o) {
  const char* group = "Guided decoding";
  std::vector<CLI::Option*> options = {
      add_option(
          command, "--json-schema", o.json_schema,
          "the answer is JSON that satisfies this schema (the text or a file); what cannot be honoured is refused"),
      add_option(command, "--json-object", o.json_object, "the answer is a JSON object"),
      add_option(command, "--regex", o.regex, "the whole answer matches this regular expression"),
      add_option(command, "--grammar", o.grammar, "the answer follows this Lark grammar (the text or a file)"),
      add_option(command, "--choice", o.choice,
                 "the answer is this text or another that is given so; may be repeated")};
  for (CLI::Option* option : options) {
    option->group(group);
    for (CLI::Option* other : options) {
      if (other != option) option->excludes(other);
    }
  }
}

}  // namespace bittern::cli
