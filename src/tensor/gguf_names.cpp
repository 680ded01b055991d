// A row per kind of tensor. Rows of one architecture come before those of all.
#include "tensor/gguf_names.h"

#include <array>

namespace bittern {
namespace {

struct Row {
  std::string_view architecture;  // "": all
  std::string_view gguf;
  std::string_view checkpoint;
};

constexpr std::array kTop = {
    Row{"", "token_embd", "model.embed_tokens"},
    Row{"", "output_norm", "model.norm"},
    Row{"", "output", "lm_head"},
};

constexpr std::array kLayer = {
    Row{"gemma2", "ffn_norm", "pre_feedforward_layernorm"},
    Row{"gemma2", "post_attention_norm", "post_attention_layernorm"},
    Row{"gemma2", "post_ffw_norm", "post_feedforward_layernorm"},
    Row{"phi3", "attn_qkv", "self_attn.qkv_proj"},
    Row{"phi3", "ffn_up", "mlp.gate_up_proj"},
    Row{"", "attn_norm", "input_layernorm"},
    Row{"", "attn_q", "self_attn.q_proj"},
    Row{"", "attn_k", "self_attn.k_proj"},
    Row{"", "attn_v", "self_attn.v_proj"},
    Row{"", "attn_output", "self_attn.o_proj"},
    Row{"", "attn_q_norm", "self_attn.q_norm"},
    Row{"", "attn_k_norm", "self_attn.k_norm"},
    Row{"", "ffn_norm", "post_attention_layernorm"},
    Row{"", "ffn_gate", "mlp.gate_proj"},
    Row{"", "ffn_up", "mlp.up_proj"},
    Row{"", "ffn_down", "mlp.down_proj"},
};

using Side = std::string_view Row::*;

template <class Rows>
std::optional<std::string> look_up(const Rows& rows, std::string_view architecture, std::string_view name, Side from,
                                   Side to) {
  for (const Row& row : rows) {
    if (row.*from == name && (row.architecture.empty() || row.architecture == architecture))
      return std::string(row.*to);
  }
  return std::nullopt;
}

std::optional<std::string> translate(std::string_view architecture, std::string_view name, Side from, Side to,
                                     std::string_view prefix_from, std::string_view prefix_to) {
  const auto dot = name.rfind('.');
  if (dot == name.npos) return std::nullopt;
  const std::string suffix(name.substr(dot));
  const std::string_view stem = name.substr(0, dot);
  if (suffix != ".weight" && suffix != ".bias") return std::nullopt;
  if (!stem.starts_with(prefix_from)) {
    const auto found = look_up(kTop, architecture, stem, from, to);
    return found ? std::optional(*found + suffix) : std::nullopt;
  }
  const std::string_view rest = stem.substr(prefix_from.size());
  const auto end = rest.find('.');
  if (end == rest.npos || end == 0 || rest.substr(0, end).find_first_not_of("0123456789") != rest.npos) {
    return std::nullopt;
  }
  const auto found = look_up(kLayer, architecture, rest.substr(end + 1), from, to);
  if (!found) return std::nullopt;
  return std::string(prefix_to) + std::string(rest.substr(0, end)) + "." + *found + suffix;
}

}  // namespace

std::optional<std::string> gguf_to_checkpoint_name(std::string_view architecture, std::string_view name) {
  return translate(architecture, name, &Row::gguf, &Row::checkpoint, "blk.", "model.layers.");
}

std::optional<std::string> checkpoint_to_gguf_name(std::string_view architecture, std::string_view key) {
  return translate(architecture, key, &Row::checkpoint, &Row::gguf, "model.layers.", "blk.");
}

}  // namespace bittern
