// Two linear or logarithmic axes, marks with tooltips, and a line through the points of the front.
#include "quant/svg_scatter.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "quant/html_page.h"
#include "quant/svg_plot.h"

namespace bittern::quant {
namespace {

constexpr double kWidth = 760, kHeight = 340;
constexpr double kLeft = 64, kRight = 24, kTop = 16, kBottom = 44;
constexpr int kTicks = 6;

std::string coordinate(double value) { return format_number(value, "%.1f"); }

/// Maps values to [0, 1].
class Scale {
 public:
  Scale(const std::vector<double>& values, bool log) : log_(log) {
    double least = INFINITY, most = 0;
    for (const double v : values) {
      if (!std::isfinite(v) || (log && v <= 0)) continue;
      least = std::min(least, v);
      most = std::max(most, v);
    }
    if (!(most > 0)) least = most = 1;
    low_ = log ? std::floor(std::log10(least)) : 0;
    high_ = log ? std::max(std::ceil(std::log10(most)), low_ + 1) : most * 1.1;
  }

  double at(double value) const {
    const double v = log_ ? (value > 0 ? std::log10(value) : low_) : value;
    return std::clamp((v - low_) / (high_ - low_), 0.0, 1.0);
  }

  std::vector<double> ticks() const {
    std::vector<double> ticks;
    const double step = log_ ? std::max(1.0, std::round((high_ - low_) / kTicks)) : round_step();
    for (double v = low_; v <= high_ * (1 + 1e-9) + 1e-12; v += step) ticks.push_back(log_ ? std::pow(10.0, v) : v);
    return ticks;
  }

 private:
  double round_step() const {
    const double power = std::pow(10.0, std::floor(std::log10(high_ / kTicks)));
    for (const double factor : {1.0, 2.0, 5.0}) {
      if (factor * power * kTicks >= high_) return factor * power;
    }
    return 10 * power;
  }

  bool log_;
  double low_, high_;
};

std::string text_at(double x, double y, const char* anchor, const std::string& text) {
  return "<text x=\"" + coordinate(x) + "\" y=\"" + coordinate(y) + "\" text-anchor=\"" + anchor + "\">" + text +
         "</text>\n";
}

std::string line(double x1, double y1, double x2, double y2) {
  return "<line class=\"grid\" x1=\"" + coordinate(x1) + "\" y1=\"" + coordinate(y1) + "\" x2=\"" + coordinate(x2) +
         "\" y2=\"" + coordinate(y2) + "\"></line>\n";
}

class Drawing {
 public:
  explicit Drawing(const Scatter& scatter)
      : scatter_(scatter), x_(values(&ScatterPoint::x), false), y_(values(&ScatterPoint::y), scatter.log_y) {}

  std::string svg() const {
    return "<svg class=\"plot\" viewBox=\"0 0 " + coordinate(kWidth) + " " + coordinate(kHeight) +
           "\" role=\"img\" aria-label=\"" + escape_html(scatter_.label) + "\">\n" + axes() + front() + marks() +
           "</svg>\n";
  }

 private:
  std::vector<double> values(double ScatterPoint::*coordinate) const {
    std::vector<double> list;
    for (const ScatterPoint& point : scatter_.points) list.push_back(point.*coordinate);
    return list;
  }
  double x(double value) const { return kLeft + x_.at(value) * (kWidth - kLeft - kRight); }
  double y(double value) const { return kHeight - kBottom - y_.at(value) * (kHeight - kTop - kBottom); }

  std::string axes() const {
    std::string svg;
    for (const double tick : y_.ticks()) {
      svg += line(kLeft, y(tick), kWidth - kRight, y(tick));
      svg += text_at(kLeft - 6, y(tick) + 4, "end", format_number(tick, "%.3g"));
    }
    for (const double tick : x_.ticks()) {
      svg += line(x(tick), kTop, x(tick), kHeight - kBottom);
      svg += text_at(x(tick), kHeight - kBottom + 16, "middle", format_number(tick, "%.3g"));
    }
    return svg + text_at((kLeft + kWidth - kRight) / 2, kHeight - 8, "middle", escape_html(scatter_.x_axis)) +
           text_at(kLeft, kTop - 4, "start", escape_html(scatter_.y_axis));
  }

  std::string front() const {
    std::vector<const ScatterPoint*> joined;
    for (const ScatterPoint& point : scatter_.points) {
      if (point.joined) joined.push_back(&point);
    }
    if (joined.size() < 2) return "";
    std::ranges::sort(joined, {}, &ScatterPoint::x);
    std::string svg = "<polyline class=\"s6\" points=\"";
    for (const ScatterPoint* point : joined) svg += coordinate(x(point->x)) + "," + coordinate(y(point->y)) + " ";
    return svg + "\"></polyline>\n";
  }

  std::string marks() const {
    std::string svg;
    bool below = false;  // labels of neighbours in the list stand apart
    for (const ScatterPoint& point : scatter_.points) {
      const double px = x(point.x), py = y(point.y);
      svg += plot_marker(px, py, point.style, point.title);
      const bool right = px < kWidth - 220;
      svg += text_at(px + (right ? 9 : -9), py + (below && py < kHeight - kBottom - 20 ? 16 : -6),
                     right ? "start" : "end", escape_html(point.title));
      below = !below;
    }
    return svg;
  }

  const Scatter& scatter_;
  Scale x_, y_;
};

}  // namespace

std::string to_svg(const Scatter& scatter) { return Drawing(scatter).svg(); }

}  // namespace bittern::quant
