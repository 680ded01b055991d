// A scatter plot of points with two measured coordinates, as an SVG element for an HTML page: the picture of a
// trade-off. Linear axes from 0, the vertical one logarithmic on demand; colours are the classes of svg_plot.h.
#pragma once

#include <string>
#include <vector>

namespace bittern::quant {

struct ScatterPoint {
  double x = 0, y = 0;
  int style = 0;           // colour and shape, as in svg_plot.h
  bool joined = false;     // by a line with the next joined one in the order of x: a Pareto front
  std::string title = {};  // tooltip and label beside the point, unescaped
};

struct Scatter {
  std::string label = {};  // for screen readers
  std::string x_axis = {}, y_axis = {};
  bool log_y = false;  // points not above 0 then lie on the lower edge
  std::vector<ScatterPoint> points = {};
};

std::string to_svg(const Scatter& scatter);

}  // namespace bittern::quant
