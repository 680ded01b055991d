// Pieces that the pages of eval_html.h are made of, for its two source files.
#pragma once

#include <string>

#include "quant/eval_html.h"
#include "quant/html_page.h"

namespace bittern::quant {

/// Head, title, model and reference.
std::string page_top(const EvalPage& page);
/// The facts of the page, and its end.
std::string page_bottom(const EvalPage& page);
/// Opens a <section> with a title and a note, both unescaped.
std::string section(const std::string& title, const std::string& note = {});

}  // namespace bittern::quant
