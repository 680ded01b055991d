// Shared options of the verbs.
#include "options.h"

#include <bittern/error.h>

#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <optional>

namespace bittern::cli {

std::string environment_name(std::string_view flag) {
  std::string name = "BITTERN_";
  for (const char c : flag.substr(flag.find_first_not_of('-'))) {
    name += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  return name;
}

std::int64_t parse_bytes(const std::string& option, const std::string& text) {
  const auto refuse = [&]() -> std::int64_t {
    throw Error(ErrorCode::invalid_argument, option + ": '" + text + "' is not a size",
                "write 800MiB, 2GiB or a number of bytes");
  };
  double number = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (status != std::errc() || !(number >= 0)) return refuse();
  std::string unit(end, text.data() + text.size());
  if (unit.ends_with("iB")) unit.resize(unit.size() - 2);
  if (unit.size() > 1 && unit.ends_with("B")) unit.resize(unit.size() - 1);
  const std::string units = "KMGT";
  double factor = 1;
  if (!unit.empty() && unit != "B") {
    const auto place = units.find(static_cast<char>(std::toupper(static_cast<unsigned char>(unit[0]))));
    if (unit.size() != 1 || place == std::string::npos) return refuse();
    factor = std::pow(1024.0, static_cast<double>(place + 1));
  }
  const double bytes = number * factor;
  if (bytes > 9e18) return refuse();
  return static_cast<std::int64_t>(bytes);
}

int parse_speculate(const std::string& text) {
  constexpr int kUsual = 8;
  if (text == "off") return 0;
  if (text == "prompt-lookup") return kUsual;
  const std::string prefix = "prompt-lookup=";
  int count = 0;
  const char* end = text.data() + text.size();
  if (text.starts_with(prefix)) {
    const auto parsed = std::from_chars(text.data() + prefix.size(), end, count);
    if (parsed.ec == std::errc() && parsed.ptr == end && count >= 1 && count <= 32) return count;
  }
  throw Error(ErrorCode::invalid_argument, "--speculate: '" + text + "' is no way to speculate",
              "write off, prompt-lookup, or prompt-lookup=N with N tokens guessed ahead, 1 to 32");
}

namespace {

// A part of the free memory: "0.4", "40%"; else nothing.
std::optional<double> parse_part(const std::string& text) {
  double number = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view rest(end, static_cast<std::size_t>(text.data() + text.size() - end));
  if (status != std::errc() || !(number > 0)) return std::nullopt;
  if (rest == "%" && number <= 100) return number / 100;
  return rest.empty() && number <= 1 ? std::optional(number) : std::nullopt;
}

}  // namespace

EngineOptions RunOptions::engine_options() const {
  EngineOptions result = engine;
  result.speculate = parse_speculate(speculate);
  result.kv_cache = kv_cache;
  if (memory_plan) result.on_plan = [](const MemoryPlan& plan) { std::fputs(describe(plan).c_str(), stderr); };
  result.on_stall = [](const std::string& message) { std::fprintf(stderr, "bittern: %s\n", message.c_str()); };
  if (prefix_cache != "on" && prefix_cache != "off") {
    throw Error(ErrorCode::invalid_argument, "--prefix-cache: '" + prefix_cache + "' is neither on nor off");
  }
  result.prefix_cache = prefix_cache == "on";
  if (kv_cache_memory == "auto") return result;
  if (const auto part = parse_part(kv_cache_memory)) {
    result.kv_cache_share = *part;
  } else {
    result.kv_cache_bytes = parse_bytes("--kv-cache-memory", kv_cache_memory);
  }
  return result;
}

void add_model_argument(CLI::App& command, std::string& model) {
  command
      .add_option("model", model,
                  "a directory (a checkpoint or a workspace), a .gguf file, or an id in the Hugging Face cache; "
                  "without it, the "
                  "embedded model")
      ->envname("BITTERN_MODEL")
      ->type_name("MODEL");
}

void add_cpu_options(CLI::App& command, BackendOptions& device) {
  add_option(command, "--threads", device.threads, "worker threads; 0: the cores this process may use")
      ->check(CLI::Range(0, 4096))
      ->group("Device");
  add_option(command, "--isa", device.isa,
             "force a lower instruction set: generic, avx2, avx512, avx512vnni, avx512bf16")
      ->group("Device");
}

void add_device_options(CLI::App& command, RunOptions& o) {
  o.device.compute = "auto";
  add_option(command, "--backend", o.backend, "cpu, ref (slow, the oracle of the tests) or cuda")->group("Device");
  add_cpu_options(command, o.device);
  add_option(
      command, "--compute", o.device.compute,
      "auto: activations stay in 32 bits unless the checkpoint was made for 8 (W8A8); f32: always; bf16, int8: rounded "
      "to 16 or 8 bits where a kernel gains by it")
      ->check(CLI::IsMember({"auto", "f32", "bf16", "int8"}))
      ->group("Device");
  add_option(command, "--kernel", o.device.kernel_pin, "pin a kernel, gemm=NAME; `bittern env` lists them")
      ->group("Device");
  add_option(command, "--deterministic", o.device.deterministic,
             "only kernels whose result for a token does not depend on the rest of the batch")
      ->group("Device");
}

void add_kv_cache_options(CLI::App& command, RunOptions& o) {
  add_option(command, "--kv-cache", o.kv_cache,
             "format of the KV cache: auto, f32, f16, bf16, int8, int4, int8-static (needs calibration)")
      ->group("Memory");
  add_option(command, "--kv-params", o.kv_params,
             "file for int8-static, from `bittern kv-params`; without it, the model's own kv_params.safetensors")
      ->check(CLI::ExistingFile)
      ->group("Memory");
}

void add_engine_options(CLI::App& command, RunOptions& o) {
  add_kv_cache_options(command, o);
  add_option(command, "--kv-cache-memory", o.kv_cache_memory,
             "size of the KV cache, such as 512MiB, or a part of the free memory, such as 0.4 or 40%; auto: what "
             "max-sequences of the whole context need, within half of the free memory")
      ->group("Memory");
  add_option(command, "--memory-plan", o.memory_plan, "print what memory is for, before it is taken")->group("Memory");
  add_option(command, "--prefix-cache", o.prefix_cache,
             "on: what prompts have in common with earlier ones is not computed again; off")
      ->group("Memory");
  add_option(command, "--max-queued", o.engine.max_queued, "requests that may wait; more are refused")
      ->check(CLI::Range(1, 1 << 24))
      ->group("Memory");
  add_option(command, "--max-queued-tokens", o.engine.max_queued_tokens,
             "tokens of prompts that may wait; 0: bounded by --max-queued alone")
      ->check(CLI::NonNegativeNumber)
      ->group("Memory");
  add_option(command, "--stall-seconds", o.engine.stall_seconds,
             "a step that takes longer is reported as a stall; 0: never")
      ->check(CLI::NonNegativeNumber)
      ->group("Memory");
  add_option(command, "--context", o.engine.context, "longest sequence in tokens; 0: what the model was made for")
      ->check(CLI::Range(0, 1 << 30))
      ->group("Memory");
  add_option(command, "--max-sequences", o.engine.max_sequences, "sequences run together in one step")
      ->check(CLI::Range(1, 4096))
      ->group("Memory");
  add_option(command, "--max-step-tokens", o.engine.max_step_tokens, "tokens of one step, the chunk of a long prompt")
      ->check(CLI::Range(1, 1 << 20))
      ->group("Memory");
  add_option(command, "--block-tokens", o.engine.block_tokens, "tokens of one KV block")
      ->check(CLI::Range(1, 4096))
      ->group("Memory");
  add_option(command, "--speculate", o.speculate,
             "prompt-lookup or prompt-lookup=N: guess N tokens ahead (8) from what was there before; the same answers, "
             "sooner where they repeat")
      ->type_name("off|prompt-lookup[=N]")
      ->group("Speculation");
}

SamplingParams SamplingOptions::resolved() const {
  SamplingParams result = params;
  if (seed >= 0) result.seed = static_cast<std::uint64_t>(seed);
  for (const std::string& entry : logit_bias) {
    std::int32_t id = 0;
    float bias = 0;
    const char* end = entry.data() + entry.size();
    const auto first = std::from_chars(entry.data(), end, id);
    const bool has_sign = first.ec == std::errc() && first.ptr != end && *first.ptr == '=';
    const auto second = has_sign ? std::from_chars(first.ptr + 1, end, bias) : first;
    if (!has_sign || second.ec != std::errc() || second.ptr != end) {
      throw Error(ErrorCode::invalid_argument, "--logit-bias: '" + entry + "' is not ID=BIAS", "for example 1234=-5");
    }
    result.logit_bias[id] = bias;
  }
  return result;
}

void add_sampling_options(CLI::App& command, SamplingOptions& o) {
  SamplingParams& p = o.params;
  const char* group = "Sampling";
  add_option(command, "--temperature", p.temperature, "0: always the most likely token")->group(group);
  add_option(command, "--top-k", p.top_k, "keep the k most likely tokens; 0: off")->group(group);
  add_option(command, "--top-p", p.top_p, "keep the most likely tokens that together have this probability")
      ->group(group);
  add_option(command, "--min-p", p.min_p, "drop tokens below this fraction of the most likely one's probability")
      ->group(group);
  add_option(command, "--repetition-penalty", p.repetition_penalty,
             "divides the logits of tokens seen in prompt or output")
      ->group(group);
  add_option(command, "--presence-penalty", p.presence_penalty, "subtracted once for every token seen in the output")
      ->group(group);
  add_option(command, "--frequency-penalty", p.frequency_penalty,
             "subtracted for each time a token was seen in the output")
      ->group(group);
  add_option(command, "--logit-bias", o.logit_bias, "ID=BIAS added to a token's logit; may be repeated")->group(group);
  add_option(command, "--seed", o.seed, "same seed, same answer; negative: drawn and reported")->group(group);
  add_option(command, "--max-tokens", p.max_tokens, "longest answer")->check(CLI::Range(1, 1 << 30))->group(group);
  add_option(command, "--min-tokens", p.min_tokens, "shortest answer before an end token is allowed")->group(group);
  add_option(command, "--ignore-eos", p.ignore_eos, "do not stop at the model's end tokens")->group(group);
  add_option(command, "--stop", o.stop, "stop at this text; may be repeated")->group(group);
  add_option(command, "--include-stop", o.include_stop, "print the stop text too")->group(group);
  add_option(command, "--stop-ids", p.stop_ids, "stop at these token ids")->group(group);
}

}  // namespace bittern::cli
