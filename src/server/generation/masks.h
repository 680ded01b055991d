// Masks that need no grammar: allowed tokens, forbidden texts; and the two that combine masks. Each follows one sample;
// the engine clones them for others.
#pragma once

#include <bittern/request.h>

#include <memory>
#include <string>
#include <vector>

#include "server/generation/settings.h"
#include "server/loaded_model.h"

namespace bittern::server {

/// Only these tokens, and `always` (end tokens, so that a sample can end).
std::shared_ptr<TokenMask> make_allowed_tokens_mask(const std::vector<std::int32_t>& allowed,
                                                    const std::vector<std::int32_t>& always);
/// Forbids the last token of each of these sequences where the output ends with the tokens before it.
std::shared_ptr<TokenMask> make_bad_sequences_mask(std::vector<std::vector<std::int32_t>> sequences);
/// All of them at once.
std::shared_ptr<TokenMask> make_all_of_mask(std::vector<std::shared_ptr<TokenMask>> masks);
/// `inner` begins after `token`; before that everything is allowed.
std::shared_ptr<TokenMask> make_mask_after(std::int32_t token, std::shared_ptr<TokenMask> inner);

/// The mask that the settings ask for, good for any n; null when they ask for none. ApiError as constraint_mask().
std::shared_ptr<TokenMask> make_mask(LoadedModel& model, const GenerationSettings& settings);

}  // namespace bittern::server
