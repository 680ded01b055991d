// Printing and files of `bittern eval`.
#include "eval_output.h"

#include <bittern/error.h>

#include <cmath>
#include <cstdio>

#include "base/atomic_file.h"
#include "quant/html_page.h"

namespace bittern::cli {

void add_eval_output(CLI::App& command, EvalOutput& o, const std::string& csv_rows) {
  const char* group = "Results";
  add_option(command, "--json", o.json, "print JSON")->group(group);
  add_option(command, "--csv", o.csv, "write a table: " + csv_rows)->type_name("FILE")->group(group);
  add_option(command, "--html", o.html, "write a page with plots; it loads nothing")->type_name("FILE")->group(group);
  add_option(command, "--confidence", o.bootstrap.level, "level of the intervals")
      ->check(CLI::Range(0.01, 0.9999))
      ->group(group);
  add_option(command, "--resamples", o.bootstrap.resamples, "resamples of the block bootstrap")
      ->check(CLI::Range(1, 1000000))
      ->group(group);
  add_option(command, "--bootstrap-seed", o.bootstrap.seed, "seed of the resamples")->group(group);
}

std::string csv_line(const std::vector<std::string>& fields) {
  std::string line;
  for (const std::string& field : fields) {
    if (!line.empty() || &field != &fields.front()) line += ',';
    if (field.find_first_of(",\"\r\n") == std::string::npos) {
      line += field;
      continue;
    }
    line += '"';
    for (const char c : field) line += c == '"' ? std::string("\"\"") : std::string(1, c);
    line += '"';
  }
  return line + "\n";
}

std::string csv_number(double value) { return std::isfinite(value) ? quant::format_number(value, "%.17g") : ""; }

void write_results(const EvalOutput& output, const Json& json, const std::string& text,
                   const std::function<std::string()>& csv, const std::function<std::string()>& html) {
  if (!output.csv.empty()) write_file_atomically(output.csv, csv());
  if (!output.html.empty()) write_file_atomically(output.html, html());
  const std::string out = output.json ? json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n" : text;
  std::fwrite(out.data(), 1, out.size(), stdout);
  if (std::fflush(stdout) != 0) throw Error(ErrorCode::io, "cannot write to standard output");
}

Json to_json(const quant::BootstrapOptions& bootstrap, const char* block) {
  return {{"level", bootstrap.level}, {"resamples", bootstrap.resamples}, {"seed", bootstrap.seed}, {"block", block}};
}

std::pair<std::string, std::string> interval_fact(const quant::BootstrapOptions& bootstrap, const char* blocks) {
  return {"Intervals", quant::format_number(100 * bootstrap.level, "%.4g") + " %, block bootstrap over " + blocks +
                           ", " + std::to_string(bootstrap.resamples) + " resamples, seed " +
                           std::to_string(bootstrap.seed)};
}

void EvalRun::progress(std::int64_t done, std::int64_t total) {
  if (!progress_) progress_ = std::make_unique<Progress>(title_, static_cast<std::uint64_t>(total));
  progress_->advance(static_cast<std::uint64_t>(done - shown_));
  shown_ = done;
  if (done == total) progress_->finish();
}

int EvalRun::exit_status() const { return stopped() ? bittern::exit_status(ErrorCode::cancelled) : 0; }

std::string stopped_note(bool stopped) {
  return stopped ? "STOPPED before the end: the figures are of what was done until then\n" : "";
}

}  // namespace bittern::cli
