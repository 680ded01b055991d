// The report of what static int8 costs K and V, which `calibrate --kv` and `kv-params` share.
#pragma once

#include "quant/kv_params.h"

namespace bittern::cli {

/// On standard output: worst layers for each granularity, and which granularity to choose.
void print_kv_report(const quant::KvReport& report);
/// Error(invalid_argument) when `path` exists and `overwrite` is off.
void refuse_existing(const std::filesystem::path& path, bool overwrite);

}  // namespace bittern::cli
