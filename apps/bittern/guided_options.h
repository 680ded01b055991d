// Options that make an answer follow a schema or a grammar (guided decoding). At most one of them may be given.
#pragma once

#include <string>
#include <vector>

#include "options.h"
#include "server/loaded_model.h"

namespace bittern::cli {

struct GuidedOptions {
  std::string json_schema;  // the schema, or the name of a file that holds it
  bool json_object = false;
  std::string regex;
  std::string grammar;              // a Lark grammar, or the name of a file that holds it
  std::vector<std::string> choice;  // texts, of which the answer is one

  /// The mask for a request to `model`; null when no option was given. Error(invalid_argument) names the option.
  std::shared_ptr<TokenMask> mask(server::LoadedModel& model) const;
};
void add_guided_options(CLI::App& command, GuidedOptions& options);

}  // namespace bittern::cli
