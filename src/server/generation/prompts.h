// A field that holds what is to be read by the model as it is: a text, a list of texts, token ids, or lists of them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "server/generation/fields.h"
#include "server/loaded_model.h"

namespace bittern::server {

struct Prompts {
  std::vector<std::vector<std::int32_t>> tokens;
  std::vector<std::string> texts;  // of each; of token ids, what they decode to
};

/// Reads the required field `key`. ApiError names the entry that is wrong. `skip_special`: of texts of ids.
Prompts read_prompts(Fields& fields, std::string_view key, const LoadedModel& model, bool add_special,
                     bool skip_special);

}  // namespace bittern::server
