// The parts that our HTML reports share: head with style sheet, facts, legends and figures. A page stands by itself:
// nothing is loaded, and its Content-Security-Policy allows no script. What a report says is decided by its own file.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "quant/svg_plot.h"

namespace bittern::quant {

/// Everything before <body>. `title` is unescaped, like every text below.
std::string page_head(std::string_view title);
/// A term and what it is, for a <dl>.
std::string page_fact(std::string_view term, std::string_view text);
/// A <td>.
std::string table_cell(std::string_view text);
/// One row of titles, a <thead>.
std::string table_head(const std::vector<std::string>& titles);
/// The styles 0, 1, ... of a plot and what they stand for.
std::string plot_legend(const std::vector<std::string>& names);
/// A plot under its legend, which scrolls by itself where the window is narrow. No legend without names.
std::string page_figure(const Plot& plot, const std::vector<std::string>& names);
/// printf's `format` (one double).
std::string format_number(double value, const char* format = "%.4g");

}  // namespace bittern::quant
