// Options that several verbs share. Every flag made by these functions has an environment twin (--kv-cache is
// BITTERN_KV_CACHE) and a key of the same name in the file given with --config.
#pragma once

#include <bittern/engine.h>
#include <bittern/request.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "backend/backend.h"

namespace bittern::cli {

/// "--kv-cache" -> "BITTERN_KV_CACHE".
std::string environment_name(std::string_view flag);

template <class T>
struct IsList : std::false_type {};
template <class T>
struct IsList<std::vector<T>> : std::true_type {};

/// An option `--name VALUE` bound to `value`, with its environment twin. `flags` is CLI11's spelling, the long name
/// first: "--prompt,-p". A list is filled by giving the option again and again.
template <class T>
CLI::Option* add_option(CLI::App& command, const std::string& flags, T& value, const std::string& help) {
  CLI::Option* option = [&] {
    if constexpr (std::is_same_v<T, bool>) {
      return command.add_flag(flags, value, help);
    } else if constexpr (IsList<T>::value) {
      // One value each time it is given: a list would swallow the MODEL that follows it.
      return command.add_option(flags, value, help)->capture_default_str()->allow_extra_args(false);
    } else {
      return command.add_option(flags, value, help)->capture_default_str();
    }
  }();
  return option->envname(environment_name(flags.substr(0, flags.find(','))));
}

/// Bytes from "512MiB", "2G", "1048576". Error(invalid_argument) names the option and shows the accepted forms.
std::int64_t parse_bytes(const std::string& option, const std::string& text);

/// Drafted tokens of "off" (0), "prompt-lookup" or "prompt-lookup=N". Error(invalid_argument) names --speculate.
int parse_speculate(const std::string& text);

/// How the model is loaded and run.
struct RunOptions {
  std::string model;  // empty: the embedded model
  std::string backend = "cpu";
  BackendOptions device;
  std::string kv_cache = "auto";
  std::string kv_params;  // file; empty: the model's own
  std::string kv_cache_memory = "auto";
  std::string speculate = "off";
  bool memory_plan = false;  // print it
  std::string prefix_cache = "on";
  std::string chat_template;  // file
  EngineOptions engine;

  /// `engine` with what has a spelling of its own on the command line filled in.
  EngineOptions engine_options() const;
};
void add_model_argument(CLI::App& command, std::string& model);
/// Threads and instruction set, for what measures the CPU itself.
void add_cpu_options(CLI::App& command, BackendOptions& device);
/// Those, and backend, compute mode, kernels.
void add_device_options(CLI::App& command, RunOptions& options);
/// Format of the KV cache, and its parameters.
void add_kv_cache_options(CLI::App& command, RunOptions& options);
/// Those, and memory, context, batch limits.
void add_engine_options(CLI::App& command, RunOptions& options);

/// How tokens are chosen and when to stop.
struct SamplingOptions {
  SamplingParams params;
  std::int64_t seed = -1;  // negative: drawn
  std::vector<std::string> stop;
  std::vector<std::string> logit_bias;  // "ID=BIAS"
  bool include_stop = false;

  /// `params` with seed and logit_bias filled in. Error(invalid_argument) names the option.
  SamplingParams resolved() const;
};
void add_sampling_options(CLI::App& command, SamplingOptions& options);

}  // namespace bittern::cli
