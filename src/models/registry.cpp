// The architectures Bittern can run: a function per architecture's file, a row per name in config.json.
#include "models/registry.h"

#include <algorithm>
#include <array>
#include <string>

#include <bittern/error.h>

namespace bittern {

std::unique_ptr<Model> make_gemma2(ModelConfig config);
std::unique_ptr<Model> make_internlm2(ModelConfig config);
std::unique_ptr<Model> make_internlm3(ModelConfig config);
std::unique_ptr<Model> make_llama(ModelConfig config);
std::unique_ptr<Model> make_mistral(ModelConfig config);
std::unique_ptr<Model> make_phi3(ModelConfig config);
std::unique_ptr<Model> make_qwen2(ModelConfig config);
std::unique_ptr<Model> make_qwen3(ModelConfig config);

namespace {

constexpr std::array kArchitectures = {
    Architecture{"Gemma2ForCausalLM", make_gemma2},       Architecture{"InternLM2ForCausalLM", make_internlm2},
    Architecture{"InternLM3ForCausalLM", make_internlm3}, Architecture{"LlamaForCausalLM", make_llama},
    Architecture{"MistralForCausalLM", make_mistral},     Architecture{"Phi3ForCausalLM", make_phi3},
    Architecture{"Qwen2ForCausalLM", make_qwen2},         Architecture{"Qwen3ForCausalLM", make_qwen3},
};

}  // namespace

std::vector<std::string> supported_architectures() {
  std::vector<std::string> names;
  for (const Architecture& row : kArchitectures) names.emplace_back(row.name);
  return names;
}

std::unique_ptr<Model> build_model(const ModelConfig& config) {
  const auto row = std::find_if(kArchitectures.begin(), kArchitectures.end(),
                                [&](const Architecture& a) { return a.name == config.architecture; });
  if (row != kArchitectures.end()) return row->make(config);
  std::string known;
  for (const Architecture& a : kArchitectures) known += (known.empty() ? "" : ", ") + std::string(a.name);
  throw Error(ErrorCode::unsupported, "architecture '" + config.architecture + "' is not supported",
              "supported: " + known);
}

}  // namespace bittern
