// The memory plan: bytes per block from the backend, bytes of arena by measuring a step, then as many blocks as are
// asked for or as fit. It never allocates and never shrinks what the user asked for by name.
#include "engine/memory_plan.h"

#include <bittern/error.h>
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "base/sysinfo.h"

namespace bittern {
namespace engine {
namespace {

std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

std::string mebibytes(std::int64_t bytes) { return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / (1 << 20)); }

[[noreturn]] void refuse(std::string message, std::string hint) {
  throw Error(ErrorCode::invalid_argument, std::move(message), std::move(hint));
}

void check_at_least(std::string_view field, std::int64_t value, std::int64_t least) {
  if (value < least) refuse(fmt::format("{} is {}, but must be at least {}", field, value, least), {});
}

void check_options(const EngineOptions& o) {
  check_at_least("kv_cache_bytes", o.kv_cache_bytes, 0);
  check_at_least("kv_cache_blocks", o.kv_cache_blocks, 0);
  if (!(o.kv_cache_share > 0 && o.kv_cache_share <= 1)) {
    refuse(fmt::format("kv_cache_share is {}, but is a part of the free memory: above 0, at most 1", o.kv_cache_share),
           {});
  }
  check_at_least("block_tokens", o.block_tokens, 1);
  check_at_least("context", o.context, 0);
  check_at_least("max_sequences", o.max_sequences, 1);
  check_at_least("max_queued", o.max_queued, 1);
  if (o.speculate < 0 || o.speculate > kScoreRows) {
    refuse(fmt::format("speculate is {}, but must be between 0 and {}", o.speculate, kScoreRows),
           "8 is a good number of tokens to guess");
  }
  check_at_least("max_queued_tokens", o.max_queued_tokens, 0);
  if (!(o.stall_seconds >= 0)) refuse(fmt::format("stall_seconds is {}, but must be 0 or more", o.stall_seconds), {});
  if (o.kv_cache_bytes > 0 && o.kv_cache_blocks > 0) {
    refuse(fmt::format("kv_cache_bytes is {} and kv_cache_blocks is {}", o.kv_cache_bytes, o.kv_cache_blocks),
           "both set the size of the KV cache: give one of them");
  }
  if (o.max_step_tokens < o.max_sequences) {
    refuse(fmt::format("max_step_tokens is {}, too few for a step of max_sequences = {}", o.max_step_tokens,
                       o.max_sequences),
           "every running sequence needs one token of each step; raise the first or lower the second");
  }
}

// Dynamic NTK scaling follows the sequence and has no end of its own; the other kinds state their stretched length.
std::int64_t longest_context(const ModelConfig& config) {
  constexpr std::int64_t kUnbounded = std::int64_t{1} << 24;  // positions are 32-bit, and floats count to 2^24
  return config.rope.kind == nn::RopeConfig::Kind::dynamic ? kUnbounded : config.max_positions;
}

std::int64_t wanted_context(const ModelConfig& config, const EngineOptions& options) {
  if (options.context == 0) return config.max_positions;
  const std::int64_t longest = longest_context(config);
  if (options.context > longest || options.context < 2) {
    refuse(fmt::format("context is {}, but this model runs 2 to {} tokens", options.context, longest),
           "leave it out for what the model was made for");
  }
  return options.context;
}

std::int64_t block_count(const EngineOptions& options, const MemoryPlan& plan, int block_tokens,
                         std::int64_t available) {
  if (options.kv_cache_blocks > 0) return options.kv_cache_blocks;
  if (options.kv_cache_bytes > 0) return options.kv_cache_bytes / plan.kv_block;
  const std::int64_t useful = options.max_sequences * divide_up(plan.context, block_tokens);
  const auto room = static_cast<double>(std::max<std::int64_t>(available - plan.arena, 0)) * options.kv_cache_share;
  return std::min(useful, static_cast<std::int64_t>(room) / plan.kv_block);
}

std::string what_is_there(const EngineOptions& options, const MemoryPlan& plan) {
  if (options.kv_cache_blocks > 0) return fmt::format("kv_cache_blocks is {}", options.kv_cache_blocks);
  if (options.kv_cache_bytes > 0) return fmt::format("kv_cache_bytes is {}", mebibytes(options.kv_cache_bytes));
  return fmt::format("{:g} % of the free memory hold {} of it", options.kv_cache_share * 100,
                     mebibytes(plan.kv_total()));
}

// The context a pool of `blocks` blocks can serve, or an error that says what would fit.
std::int64_t fitting_context(const EngineOptions& options, const MemoryPlan& plan, int block_tokens) {
  const std::int64_t capacity = plan.kv_blocks * block_tokens;
  if (plan.context <= capacity) return plan.context;
  if (options.context == 0 && capacity >= 2) return capacity;
  const std::int64_t needed = divide_up(plan.context, block_tokens) * plan.kv_block;
  throw Error(ErrorCode::out_of_memory,
              fmt::format("a context of {} tokens needs {} of {} KV cache, but {}", plan.context, mebibytes(needed),
                          plan.kv_format, what_is_there(options, plan)),
              capacity >= 2 ? fmt::format("a context of {} fits; int8 or int4 for kv_cache holds more", capacity)
                            : fmt::format("one block of {} tokens needs {}", block_tokens, mebibytes(plan.kv_block)));
}

// Where the number of blocks and the context come from, for the reader of the plan.
std::string explain(const EngineOptions& options, const ModelConfig& config, const MemoryPlan& plan,
                    std::int64_t available) {
  std::string text;
  if (options.kv_cache_blocks > 0 || options.kv_cache_bytes > 0) {
    text = fmt::format("the KV cache has the size that was asked for ({} blocks of {} tokens)", plan.kv_blocks,
                       plan.block_tokens);
  } else if (plan.longest_at_once() >= options.max_sequences) {
    text = fmt::format("the KV cache holds max_sequences = {} sequences of the whole context", options.max_sequences);
  } else {
    text = fmt::format("the KV cache takes {:g} % of the {} that are free beside weights and step",
                       options.kv_cache_share * 100, mebibytes(std::max<std::int64_t>(available - plan.arena, 0)));
  }
  if (options.context == 0 && plan.context < config.max_positions) {
    text += fmt::format("; the context is cut from {} to {} tokens to fit it", config.max_positions, plan.context);
  }
  if (options.prefix_cache && !plan.prefix_cache) {
    text += "; prefixes are not cached, since this model's rope depends on the length";
  }
  return text;
}

}  // namespace

ResolvedOptions resolve_options(Model& model, Backend& backend, const EngineOptions& options, std::int64_t available) {
  check_options(options);
  ResolvedOptions result;
  result.kv = model.kv_spec(parse_kv_format(options.kv_cache, backend), options.block_tokens);
  if (result.kv.format == KvFormat::int8_static) result.kv.static_params = options.kv_params;
  if (!backend.supports(result.kv)) {
    throw Error(ErrorCode::unsupported,
                fmt::format("the {} backend cannot hold a {} KV cache with head_dim {}", backend.name(),
                            kv_format_name(result.kv.format), result.kv.head_dim));
  }
  result.limits.max_tokens = options.max_step_tokens;
  result.limits.max_sequences = options.max_sequences;
  result.limits.max_logit_rows = options.max_sequences + kScoreRows;

  MemoryPlan& plan = result.plan;
  plan.weights = weight_bytes(model);
  // Pages of a mapped file count as free until they are read, and as free again after that; they are needed all along.
  available -= mapped_weight_bytes(model);
  plan.kv_block = backend.kv_block_bytes(result.kv);
  plan.kv_format = kv_format_name(result.kv.format);
  plan.block_tokens = options.block_tokens;
  plan.max_sequences = options.max_sequences;
  plan.prefix_cache = options.prefix_cache && !model.config().rope.depends_on_length();
  plan.arena = Runner::plan_arena(model, backend, result.kv, result.limits);
  plan.context = wanted_context(model.config(), options);
  plan.kv_blocks = block_count(options, plan, options.block_tokens, available);
  plan.context = fitting_context(options, plan, options.block_tokens);
  plan.explanation = explain(options, model.config(), plan, available);
  return result;
}

void check_free_memory(const MemoryPlan& plan, std::int64_t mapped_weights, std::int64_t available) {
  const std::int64_t needed = plan.kv_total() + plan.arena;
  if (needed <= available - mapped_weights) return;
  throw Error(ErrorCode::out_of_memory,
              fmt::format("the KV cache ({}) and the step ({}) need {}, but {} are free", mebibytes(plan.kv_total()),
                          mebibytes(plan.arena), mebibytes(needed),
                          mebibytes(std::max<std::int64_t>(available - mapped_weights, 0))),
              "ask for a smaller KV cache, or leave its size out");
}

}  // namespace engine

std::string describe(const MemoryPlan& p) {
  using engine::mebibytes;
  std::string text;
  text += fmt::format("weights    {:>12}\n", mebibytes(p.weights));
  text += fmt::format("KV cache   {:>12}   {} blocks of {} tokens in {}{}\n", mebibytes(p.kv_total()), p.kv_blocks,
                      p.block_tokens, p.kv_format, p.prefix_cache ? ", prefixes cached" : "");
  text += fmt::format("step       {:>12}\n", mebibytes(p.arena));
  text += fmt::format("together   {:>12}\n", mebibytes(p.total()));
  text += fmt::format("longest sequence {} tokens; {} of that length at once, at most {} sequences of any\n", p.context,
                      p.longest_at_once(), p.max_sequences);
  return text + p.explanation + "\n";
}

MemoryPlan plan_memory(Model& model, Backend& backend, const EngineOptions& options) {
  const auto available = static_cast<std::int64_t>(memory_info().available);
  return engine::resolve_options(model, backend, options, available).plan;
}

}  // namespace bittern
