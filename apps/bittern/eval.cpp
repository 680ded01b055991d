// `bittern eval`: what a model knows and what quantization cost it. One sub-command for each measurement; this file
// joins them.
#include "eval_recall.h"
#include "eval_tasks.h"
#include "eval_text.h"
#include "verb.h"

namespace bittern::cli {

std::function<int()> declare_eval(CLI::App& command) {
  struct Part {
    const char* name;
    const char* help;
    std::function<int()> (*declare)(CLI::App&);
  };
  constexpr Part kParts[] = {
      {"ppl", "perplexity of a text", declare_eval_ppl},
      {"nll", "negative log-likelihood of documents, each by itself", declare_eval_nll},
      {"kl", "KL divergence from a reference model on the same text", declare_eval_kl},
      {"tasks", "accuracy on tasks with checkable answers", declare_eval_tasks},
      {"recall", "recall of names planted in a long context", declare_eval_recall},
  };
  command.require_subcommand(1);
  std::vector<std::pair<CLI::App*, std::function<int()>>> parts;
  for (const Part& part : kParts) {
    CLI::App* sub = command.add_subcommand(part.name, part.help);
    parts.emplace_back(sub, part.declare(*sub));
  }
  return [parts] {
    for (const auto& [sub, run] : parts) {
      if (sub->parsed()) return run();
    }
    return 0;
  };
}

}  // namespace bittern::cli
