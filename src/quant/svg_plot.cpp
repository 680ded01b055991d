// Drawing is text: a frame maps values to coordinates of a fixed view box, which the page scales to its width. Shapes
// differ as well as colours, for eyes and printers that do not tell colours apart. It does not measure text.
#include "quant/svg_plot.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <map>

#include "base/strings.h"

namespace bittern::quant {
namespace {

constexpr double kWidth = 760, kHeight = 300;
constexpr double kLeft = 56, kRight = 12, kTop = 12, kBottom = 40;
constexpr const char* kReplacement = "\xEF\xBF\xBD";

std::string number(double value, const char* format = "%.1f") {
  char text[32];
  std::snprintf(text, sizeof(text), format, value);
  return text;
}

// The smallest of 1, 2 and 5 times a power of ten that is not below `least`.
double round_step(double least) {
  const double power = std::pow(10.0, std::floor(std::log10(least)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= least) return factor * power;
  }
  return 10 * power;
}

// The vertical axis. Values beyond these, which no useful model has, lie on its edges: so no ratio overflows.
constexpr double kLeast = 1e-30, kMost = 1e30;

class Axis {
 public:
  explicit Axis(const Plot& plot) : log_(plot.log) {
    for (const PlotMark& mark : plot.marks) {
      include(mark.value);
      include(mark.before);
      include(mark.high);
      include(mark.low);
    }
    if (low_ > high_) low_ = 0.1, high_ = 1;  // nothing to show
    log_ ? widen() : start_at_zero();
  }

  double y(double value) const {
    const double low = log_ ? std::log(low_) : low_, high = log_ ? std::log(high_) : high_;
    const double v = log_ ? std::log(std::clamp(value, low_, high_)) : std::clamp(value, low_, high_);
    return kHeight - kBottom - (v - low) / (high - low) * (kHeight - kTop - kBottom);
  }

  std::vector<double> ticks() const { return log_ ? decades() : steps(); }

 private:
  void include(double value) {
    if (!std::isfinite(value) || value <= 0) return;
    low_ = std::min(low_, std::clamp(value, kLeast, kMost));
    high_ = std::max(high_, std::clamp(value, kLeast, kMost));
  }

  // Room for the marks, and at least a factor of 4, which holds two labels.
  void widen() {
    const double room = std::max(std::pow(high_ / low_, 0.06), 1.0);
    low_ /= room, high_ *= room;
    const double missing = std::sqrt(std::max(4.0 / (high_ / low_), 1.0));
    low_ /= missing, high_ *= missing;
  }

  void start_at_zero() {
    low_ = 0;
    high_ *= 1.08;
  }

  std::vector<double> steps() const {
    const double step = round_step(high_ / 6);
    std::vector<double> ticks;
    for (int i = 0; i * step <= high_; ++i) ticks.push_back(i * step);
    return ticks;
  }

  std::vector<double> decades() const {
    const int first = static_cast<int>(std::floor(std::log10(low_))), last = static_cast<int>(std::log10(high_)) + 1;
    const int every = std::max(1, (last - first) / 8);
    const bool between = std::log10(high_ / low_) < 2.5;  // few decades: 2 and 5 as well
    std::vector<double> ticks;
    for (int power = first; power <= last; power += every) {
      for (const double factor : {1.0, 2.0, 5.0}) {
        const double tick = factor * std::pow(10.0, power);
        if (tick >= low_ && tick <= high_ && (between || factor == 1.0)) ticks.push_back(tick);
      }
    }
    return ticks;
  }

  bool log_;
  double low_ = std::numeric_limits<double>::infinity(), high_ = 0;
};

double column_width(const Plot& plot) { return (kWidth - kLeft - kRight) / std::max(plot.columns, 1); }

double x_of(const Plot& plot, double column) { return kLeft + (column + 0.5) * column_width(plot); }

std::string text_at(double x, double y, const char* anchor, const std::string& text) {
  return "<text x=\"" + number(x) + "\" y=\"" + number(y) + "\" text-anchor=\"" + anchor + "\">" + text + "</text>";
}

std::string line(double x1, double y1, double x2, double y2, const std::string& css) {
  return "<line class=\"" + css + "\" x1=\"" + number(x1) + "\" y1=\"" + number(y1) + "\" x2=\"" + number(x2) +
         "\" y2=\"" + number(y2) + "\"></line>";
}

std::string style_class(int style) { return "s" + std::to_string(style % kPlotColors); }

std::string marker(double x, double y, int style, bool hollow, std::string_view title) {
  static constexpr std::array<const char*, 4> kShapes = {
      "m-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0z",
      "m-3 -3h6v6h-6z",
      "m0 -4.5l4.5 4.5l-4.5 4.5l-4.5 -4.5z",
      "m0 -4l4 7h-8z",
  };
  const char* shape = kShapes[static_cast<std::size_t>(style) % kShapes.size()];
  return "<path class=\"" + style_class(style) + (hollow ? " before" : "") + "\" d=\"M" + number(x) + " " + number(y) +
         shape + "\"><title>" + escape_html(title) + "</title></path>\n";
}

std::string draw_y_axis(const Axis& axis) {
  std::string svg;
  for (const double tick : axis.ticks()) {
    const double y = axis.y(tick);
    svg += line(kLeft, y, kWidth - kRight, y, "grid") + text_at(kLeft - 6, y + 4, "end", number(tick, "%.3g")) + "\n";
  }
  return svg;
}

std::string tick(const Plot& plot, int column) {
  const auto index = static_cast<std::size_t>(column);
  return index < plot.ticks.size() ? escape_html(plot.ticks[index]) : std::to_string(column);
}

// How many columns one label needs: numbers are narrow, names are as long as they are.
int columns_per_label(const Plot& plot) {
  std::size_t longest = 5;
  for (const std::string& name : plot.ticks) longest = std::max(longest, name.size());
  const double labels = 80.0 / static_cast<double>(longest);
  return std::max(1, static_cast<int>(round_step(std::max(plot.columns, 1) / std::max(labels, 1.0))));
}

std::string draw_x_axis(const Plot& plot) {
  const double bottom = kHeight - kBottom;
  std::string svg = line(kLeft, bottom, kWidth - kRight, bottom, "axis");
  for (int column = 0; column < plot.columns; column += columns_per_label(plot)) {
    svg += text_at(x_of(plot, column), bottom + 16, "middle", tick(plot, column));
  }
  return svg + text_at((kLeft + kWidth - kRight) / 2, kHeight - 6, "middle", escape_html(plot.axis)) + "\n";
}

bool ascending(const std::vector<const PlotMark*>& marks) {
  return std::adjacent_find(marks.begin(), marks.end(), [](auto* a, auto* b) { return a->column >= b->column; }) ==
         marks.end();
}

std::string draw_lines(const Plot& plot, const Axis& axis) {
  std::map<int, std::vector<const PlotMark*>> styles;
  for (const PlotMark& mark : plot.marks) {
    if (std::isfinite(mark.value)) styles[mark.style].push_back(&mark);
  }
  std::string svg;
  for (const auto& [style, marks] : styles) {
    if (marks.size() < 2 || !ascending(marks)) continue;
    svg += "<polyline class=\"" + style_class(style) + "\" points=\"";
    for (const PlotMark* mark : marks) {
      svg += number(x_of(plot, mark->column + mark->offset)) + "," + number(axis.y(mark->value)) + " ";
    }
    svg += "\"></polyline>\n";
  }
  return svg;
}

std::string draw_mark(const Plot& plot, const Axis& axis, const PlotMark& mark) {
  if (!std::isfinite(mark.value)) return "";
  const double x = x_of(plot, mark.column + mark.offset), y = axis.y(mark.value);
  std::string svg;
  if (std::isfinite(mark.low) && std::isfinite(mark.high)) {
    const double low = axis.y(mark.low), high = axis.y(mark.high);
    svg += line(x, low, x, high, style_class(mark.style));
    for (const double end : {low, high}) svg += line(x - 4, end, x + 4, end, style_class(mark.style));
  }
  if (std::isfinite(mark.before)) {
    const double from = axis.y(mark.before);
    svg += line(x, from, x, y, style_class(mark.style)) + marker(x, from, mark.style, true, mark.title);
  }
  return svg + marker(x, y, mark.style, false, mark.title);
}

// The value as text too, dark on light or light on dark as the colour behind it needs.
std::string heat_cell(double x, double y, double width, double height, const HeatRow& row, std::size_t column) {
  const double value = row.values[column];
  if (!std::isfinite(value)) return "";
  const double share = std::clamp(value, 0.0, 1.0);
  const std::string title = column < row.titles.size() ? row.titles[column] : std::string();
  return "<rect class=\"heat\" x=\"" + number(x + 1) + "\" y=\"" + number(y + 1) + "\" width=\"" + number(width - 2) +
         "\" height=\"" + number(height - 2) + "\" fill-opacity=\"" + number(share, "%.3f") + "\"><title>" +
         escape_html(title) + "</title></rect><text class=\"" + (share > 0.6 ? "over" : "cell") + "\" x=\"" +
         number(x + width / 2) + "\" y=\"" + number(y + height / 2 + 4) + "\" text-anchor=\"middle\">" +
         number(100 * value, "%.0f") + "</text>\n";
}

}  // namespace

std::string escape_html(std::string_view text) {
  std::string out;
  for (const char c : utf8_sanitize(text)) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else if (c == '\'')
      out += "&#39;";
    else if ((byte < 0x20 && c != '\t' && c != '\n') || byte == 0x7F)
      out += kReplacement;
    else
      out += c;
  }
  return out;
}

std::string to_svg(const Plot& plot) {
  const Axis axis(plot);
  std::string svg = "<svg class=\"plot\" viewBox=\"0 0 " + number(kWidth, "%.0f") + " " + number(kHeight, "%.0f") +
                    "\" role=\"img\" aria-label=\"" + escape_html(plot.label) + "\">\n";
  svg += draw_y_axis(axis) + draw_x_axis(plot);
  if (plot.joined) svg += draw_lines(plot, axis);
  for (const PlotMark& mark : plot.marks) svg += draw_mark(plot, axis, mark);
  return svg + "</svg>\n";
}

std::string heat_map(std::string_view label, std::string_view axis, const std::vector<std::string>& columns,
                     const std::vector<HeatRow>& rows) {
  constexpr double kRow = 30, kHead = 40, kNames = 90;
  const double height = kHead + kRow * static_cast<double>(rows.size()) + 4;
  const double width = (kWidth - kNames - kRight) / static_cast<double>(std::max<std::size_t>(columns.size(), 1));
  const auto left = [&](std::size_t column) { return kNames + width * static_cast<double>(column); };
  std::string svg = "<svg class=\"plot\" viewBox=\"0 0 " + number(kWidth, "%.0f") + " " + number(height, "%.0f") +
                    "\" role=\"img\" aria-label=\"" + escape_html(label) + "\">\n";
  svg += text_at(kNames + (kWidth - kNames - kRight) / 2, 14, "middle", escape_html(axis));
  for (std::size_t c = 0; c < columns.size(); ++c) {
    svg += text_at(left(c) + width / 2, 32, "middle", escape_html(columns[c]));
  }
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const double top = kHead + kRow * static_cast<double>(r);
    svg += text_at(kNames - 8, top + kRow / 2 + 4, "end", escape_html(rows[r].name)) + "\n";
    for (std::size_t c = 0; c < std::min(rows[r].values.size(), columns.size()); ++c) {
      svg += heat_cell(left(c), top, width, kRow, rows[r], c);
    }
  }
  return svg + "</svg>\n";
}

std::string plot_marker(double x, double y, int style, std::string_view title) {
  return marker(x, y, style, false, title);
}

std::string plot_key(int style) {
  return "<svg class=\"key\" viewBox=\"0 0 12 12\" aria-hidden=\"true\">" + marker(6, 6, style, false, "") + "</svg>";
}

}  // namespace bittern::quant
