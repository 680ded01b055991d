// What a workspace's config.ini says of a model when it is written: facts, the model's settings, and the settings of
// the run that the source had or, without any, the defaults.
#pragma once

#include <map>
#include <string>

#include "models/config.h"
#include "tensor/config_ini.h"
#include "tensor/format.h"
#include "tensor/model_files.h"

namespace bittern {

/// Facts and the model's own settings. `formats`: of every linear and table; what they share becomes weight_type and
/// group_size.
ConfigIni describe_model(const ModelFiles& files, const ModelConfig& config,
                         const std::map<std::string, Format>& formats);
/// The same with the settings of the run: those of `given`, or the usual ones.
ConfigIni with_run_settings(ConfigIni ini, const RunSettings* given);

}  // namespace bittern
