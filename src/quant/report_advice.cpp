// One function for each piece of advice, which says nothing where it does not apply.
#include "quant/report_advice.h"

#include <algorithm>

#include "base/strings.h"
#include "quant/html_page.h"

namespace bittern::quant {
namespace {

// A linear stands out when its weights lose so many times what all weights together lose.
constexpr double kStandsOut = 3;
constexpr std::size_t kNamed = 3;

std::vector<const LinearReport*> outstanding(const QuantizeReport& report) {
  std::vector<const LinearReport*> list;
  for (const LinearReport& linear : report.linears) {
    if (report.nmse > 0 && linear.nmse > kStandsOut * report.nmse) list.push_back(&linear);
  }
  std::ranges::stable_sort(list, std::greater<>(), [](const LinearReport* linear) { return linear->nmse; });
  return list;
}

std::string skip_outstanding(const QuantizeReport& report) {
  const auto list = outstanding(report);
  if (list.empty()) return "";
  std::string options;
  std::int64_t more = 0;
  for (std::size_t i = 0; i < std::min(kNamed, list.size()); ++i) {
    options += (i > 0 ? " " : "") + ("--skip " + list[i]->name);
    more += list[i]->source_bytes - list[i]->output_bytes;
  }
  return std::to_string(list.size()) + (list.size() == 1 ? " linear loses" : " linears lose") + " more than " +
         format_number(kStandsOut, "%.0f") + " times the average of all weights. " + options +
         (list.size() > kNamed ? " (the worst of them)" : "") + " would leave " +
         (std::min(kNamed, list.size()) == 1 ? "it" : "them") + " as in the original, for " +
         human_bytes(static_cast<std::uint64_t>(std::max<std::int64_t>(more, 0))) + " more.";
}

std::string use_calibration(const QuantizeReport& report) {
  if (report.plan.algorithm != "rtn") return "";
  return "Nothing was calibrated: rtn rounds each weight by itself. --algorithm gptq or --algorithm awq look at what "
         "the weights are multiplied with and usually lose less at the same size.";
}

std::string smaller_groups(const QuantizeReport& report) {
  if (report.plan.group_size != -1 && report.plan.group_size <= 32) return "";
  return "A smaller --group-size (32 is the least) rounds finer and stores more scales: less loss, more bits per "
         "weight.";
}

std::string read_notes(const QuantizeReport& report) {
  const auto worse = std::ranges::count_if(report.linears, [](const LinearReport& linear) {
    return linear.loss_before >= 0 && linear.loss_after > linear.loss_before;
  });
  if (worse == 0) return "";
  return std::to_string(worse) + " of " + std::to_string(report.linears.size()) +
         " linears have outputs that are further off than rounding to nearest would leave them, on the search tokens. "
         "A few are normal, since a layer is judged as a whole; many call for more calibration data (--samples, "
         "--data).";
}

std::string measure(const QuantizeReport& report) {
  // The embedded model has no name on the command line; it is the reference where none is given.
  const bool embedded = report.plan.source.starts_with("embedded:");
  const std::string command = "bittern eval kl " + report.plan.output.string() +
                              (embedded ? "" : " --reference " + report.plan.source) + " --data FILE";
  return (report.quality ? "On text like that which the model will see: " : "To measure what it cost: ") + command;
}

}  // namespace

std::vector<std::string> advice(const QuantizeReport& report) {
  std::vector<std::string> list;
  if (report.linears.empty()) return list;
  for (const auto& piece : {use_calibration, skip_outstanding, smaller_groups, read_notes, measure}) {
    if (std::string text = piece(report); !text.empty()) list.push_back(std::move(text));
  }
  return list;
}

}  // namespace bittern::quant
