// `bittern eval tasks`: a file of questions with known answers. Replies are generated greedily and many at a time,
// choices are scored by log-likelihood.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace bittern::cli {

std::function<int()> declare_eval_tasks(CLI::App& command);

}  // namespace bittern::cli
