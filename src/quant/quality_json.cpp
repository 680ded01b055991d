// Quality results as JSON, under the names that `bittern eval --json` documents.
#include "quant/quality.h"

namespace bittern::quant {
namespace {

Json to_json(const Estimate& estimate) { return {{"mean", estimate.mean}, {"standard_error", estimate.error}}; }

}  // namespace

Json to_json(const PplResult& result) {
  return {{"protocol", result.stride > 0 ? "strided" : "llama.cpp"},
          {"context", result.context},
          {"stride", result.stride},
          {"bos", result.bos < 0 ? Json() : Json(result.bos)},
          {"windows", result.windows},
          {"tokens", result.tokens},
          {"stopped", result.stopped},
          {"nll", to_json(result.nll)},
          {"perplexity", result.perplexity()},
          {"perplexity_standard_error", result.perplexity_error()}};
}

Json to_json(const DocumentResult& result) {
  Json documents = Json::array();
  for (const auto& document : result.documents) {
    documents.push_back({{"tokens", document.tokens}, {"nll", document.nll}, {"cut", document.cut}});
  }
  return {{"tokens", result.tokens},
          {"nll", to_json(result.nll)},
          {"perplexity", result.perplexity()},
          {"mean_of_documents", result.mean_of_documents},
          {"documents", std::move(documents)}};
}

Json to_json(const KlResult& result) {
  return {{"kl", to_json(result.kl)},
          {"max_kl", result.max_kl},
          {"same_top", to_json(result.same_top)},
          {"reference", to_json(result.reference)},
          {"candidate", to_json(result.candidate)}};
}

}  // namespace bittern::quant
