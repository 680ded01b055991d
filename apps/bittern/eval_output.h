// Where the results of `bittern eval` go: text or JSON on standard output, and files on demand, which appear whole or
// not at all. Also what all its sub-commands share: the bootstrap's options, progress and Ctrl-C.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/progress.h"
#include "interrupt.h"
#include "options.h"
#include "quant/bootstrap.h"
#include "quant/eval_html.h"

namespace bittern::cli {

struct EvalOutput {
  bool json = false;
  std::string csv, html;  // files; empty: none
  quant::BootstrapOptions bootstrap;
};
void add_eval_output(CLI::App& command, EvalOutput& output, const std::string& csv_rows);

/// One line of RFC 4180, quoted where needed.
std::string csv_line(const std::vector<std::string>& fields);
/// With all digits, so that the same bits come back.
std::string csv_number(double value);

/// Writes the files that were asked for, then prints `json` or `text`. `csv` and `html` are called where needed.
void write_results(const EvalOutput& output, const Json& json, const std::string& text,
                   const std::function<std::string()>& csv, const std::function<std::string()>& html);

/// {"level", "resamples", "seed", "block"}: how intervals were made.
Json to_json(const quant::BootstrapOptions& bootstrap, const char* block);

/// The same for the facts of a page; `blocks` is a plural.
std::pair<std::string, std::string> interval_fact(const quant::BootstrapOptions& bootstrap, const char* blocks);

/// A long measurement: shows progress, and turns Ctrl-C into the wish to stop after the current step.
class EvalRun {
 public:
  explicit EvalRun(std::string title) : title_(std::move(title)) {}
  void progress(std::int64_t done, std::int64_t total);
  bool stopped() const { return interrupt_.interrupted(); }
  /// 0, or the status of a run that was stopped.
  int exit_status() const;

 private:
  std::string title_;
  InterruptGuard interrupt_;
  std::unique_ptr<Progress> progress_;
  std::int64_t shown_ = 0;
};

/// For text: a line that says so where a run was stopped.
std::string stopped_note(bool stopped);

}  // namespace bittern::cli
