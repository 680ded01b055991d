// Names of tensors: GGUF's ("blk.3.attn_q.weight") and the Hugging Face checkpoint's
// ("model.layers.3.self_attn.q_proj.weight"), translated both ways from one table.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace bittern {

/// The checkpoint's key for a GGUF tensor of `architecture` ("llama", ...); nullopt for a name that is in no table.
std::optional<std::string> gguf_to_checkpoint_name(std::string_view architecture, std::string_view name);
/// The inverse.
std::optional<std::string> checkpoint_to_gguf_name(std::string_view architecture, std::string_view key);

}  // namespace bittern
