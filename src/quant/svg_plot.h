// Plots of values over columns (the layers of a model, buckets of positions, kinds of task), as SVG elements for an
// HTML page. Colours are classes (s0, s1, ...) that the page defines, so that one drawing serves light and dark; every
// mark has a tooltip. Not a plotting library: the horizontal axis has columns, values are not negative, no scripts.
#pragma once

#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace bittern::quant {

/// Text safe between tags and in quoted attributes: &, <, >, " and ' become entities, and bytes that HTML cannot hold
/// (invalid UTF-8, control characters) become U+FFFD.
std::string escape_html(std::string_view text);

/// Colours and shapes repeat after 7 and 4 styles, so 28 styles in a row look different.
inline constexpr int kPlotColors = 7;

/// One value. Values that are not finite are not drawn; on a logarithmic axis those not above 0 lie on its lower edge.
struct PlotMark {
  int column = 0;
  double offset = 0;  // within the column: -0.5 (its left edge) to 0.5
  double value = 0;
  /// Where finite: an earlier value, drawn hollow and joined to `value`.
  double before = std::numeric_limits<double>::quiet_NaN();
  /// Where both are finite: an interval around `value`, drawn as a bar.
  double low = std::numeric_limits<double>::quiet_NaN();
  double high = std::numeric_limits<double>::quiet_NaN();
  int style = 0;           // colour and shape
  std::string title = {};  // tooltip, unescaped
};

struct Plot {
  std::string label = {};      // what it shows, for screen readers, unescaped
  int columns = 0;             // columns 0 to columns - 1
  std::string axis = "layer";  // what the columns are, unescaped
  /// Name of every column, unescaped; empty: their numbers.
  std::vector<std::string> ticks = {};
  bool log = false;  // vertical axis: logarithmic, or linear from 0
  std::vector<PlotMark> marks = {};
  /// Draw a line through the marks of a style that has at most one for each column, in ascending order.
  bool joined = false;
};

/// An <svg> element without namespace (as HTML has it inline) and without references to anything outside.
std::string to_svg(const Plot& plot);

/// One row of a heat map: values from 0 (paper) to 1 (full colour), NaN for an empty cell.
struct HeatRow {
  std::string name = {};  // unescaped
  std::vector<double> values = {};
  std::vector<std::string> titles = {};  // a tooltip for every value, unescaped
};

/// A grid of coloured cells with their values in percent, as an <svg>: `columns` are the names above, `axis` what they
/// are, `label` for screen readers.
std::string heat_map(std::string_view label, std::string_view axis, const std::vector<std::string>& columns,
                     const std::vector<HeatRow>& rows);

/// The mark of a style around a point of an <svg>, with a tooltip (unescaped).
std::string plot_marker(double x, double y, int style, std::string_view title);

/// A small <svg> that shows a style, for legends.
std::string plot_key(int style);

}  // namespace bittern::quant
