// `bittern eval recall`: what is left of a name read long ago, by depth and length of the context.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <vector>

#include "eval_output.h"
#include "options.h"
#include "quant/recall.h"

namespace bittern::cli {

/// The answers of the model of `options` to the prompts of a grid, in the order of quant::recall_places(), through its
/// chat template where it has one; fewer where `run` was stopped. Errors as quant::make_recall_text() and ask_recall().
std::vector<quant::RecallAnswer> answer_recall(const RunOptions& options, const quant::RecallOptions& recall,
                                               EvalRun& run);

std::function<int()> declare_eval_recall(CLI::App& command);

}  // namespace bittern::cli
