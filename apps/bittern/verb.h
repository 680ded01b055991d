// A verb of the command line: one file each, one row in verbs.cpp. A verb declares its options on a CLI11 sub-command
// and returns what to run; parsing errors, exit codes and --help are main.cpp's.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string_view>

namespace bittern::cli {

struct Verb {
  std::string_view name;
  std::string_view summary;
  /// Declares options on `command`; the returned function runs the verb and gives the exit status.
  std::function<int()> (*declare)(CLI::App& command);
};

std::function<int()> declare_bench(CLI::App& command);
std::function<int()> declare_calibrate(CLI::App& command);
std::function<int()> declare_chat(CLI::App& command);
std::function<int()> declare_convert(CLI::App& command);
std::function<int()> declare_env(CLI::App& command);
std::function<int()> declare_eval(CLI::App& command);
std::function<int()> declare_generate(CLI::App& command);
std::function<int()> declare_kv_params(CLI::App& command);
std::function<int()> declare_quantize(CLI::App& command);
std::function<int()> declare_serve(CLI::App& command);
std::function<int()> declare_show(CLI::App& command);
std::function<int()> declare_tune(CLI::App& command);

inline constexpr Verb kVerbs[] = {
    {"chat", "talk to a model in the terminal", declare_chat},
    {"generate", "complete one prompt, from -p or standard input", declare_generate},
    {"serve", "answer OpenAI-compatible HTTP requests with one or more models", declare_serve},
    {"calibrate", "gather statistics of a model's activations", declare_calibrate},
    {"kv-params", "write the parameters of a static int8 KV cache", declare_kv_params},
    {"quantize", "write a checkpoint with weights of fewer bits", declare_quantize},
    {"convert", "write a model as a workspace, packed for this machine, or as a GGUF file", declare_convert},
    {"eval", "measure perplexity, divergence and task accuracy", declare_eval},
    {"tune", "find the best way to run a model here: measure plain, KV cache, weights, both", declare_tune},
    {"bench", "measure this machine, the kernels, a model's latency and throughput", declare_bench},
    {"show", "describe a model: architecture, parameters, formats, bytes", declare_show},
    {"env", "describe this machine: CPU features, kernels, versions", declare_env},
};

}  // namespace bittern::cli
