// `bittern eval ppl | nll | kl`: measurements on text.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace bittern::cli {

std::function<int()> declare_eval_ppl(CLI::App& command);
std::function<int()> declare_eval_nll(CLI::App& command);
std::function<int()> declare_eval_kl(CLI::App& command);

}  // namespace bittern::cli
