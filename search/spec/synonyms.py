"""Names that other tools use -> names in a study file: the table behind every "did you mean".

Synonyms come from KerasTuner, Optuna, Ray Tune, W&B sweeps, scikit-learn, Keras, PyTorch and habit. A synonym is never
accepted in place of the name: the error shows the name to write. Nothing here knows of files or commands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

# Name -> its synonyms elsewhere. A synonym may belong to several names: the section that uses it decides.
_SYNONYMS: Mapping[str, str] = {
    # Sections.
    "space": (
        "search_space searchspace parameters parameter params param hyperparameters hyperparameter hparams "
        "hps hp param_space parameter_space config_space param_grid param_distributions ranges tune variables"
    ),
    "study": "experiment general settings project sweep main job",
    "data": "dataset datasets input inputs data_source",
    "model": "network architecture net builder hypermodel",
    "train": "training fit trainer optimisation optimization compile hyper",
    "search": "tuner tuning algorithm strategy sampling scheduler search_alg searcher hpo",
    "limits": "constraints constraint outcome_constraints model_limits",
    "run": "runtime execution resources environment compute hardware system backend",
    # [study]
    "name": "study_name project_name experiment_name title run_name",
    "objective": (
        "metric monitor target_metric score objective_metric objectives optimize optimise metric_name "
        "criterion scoring eval_metric loss_name refit"
    ),
    "direction": "goal mode directions maximize minimize maximise minimise greater_is_better better aim",
    "trials": (
        "max_trials n_trials num_trials num_samples n_iter count budget iterations n_calls max_evals run_cap "
        "trial max_runs n_runs num_trial samples total_trials runs"
    ),
    "epochs": (
        "max_epochs n_epochs num_epochs epoch nb_epoch max_t max_iter training_iteration steps max_resource "
        "max_resources"
    ),
    "seed": "random_state random_seed rng rng_seed seeds",
    "time": (
        "timeout max_time time_budget time_limit time_budget_s time_total_s max_duration walltime duration "
        "max_time_s budget_s hours deadline"
    ),
    "stop_after": (
        "max_stagnation no_improvement patience_trials n_trials_without_improvement max_no_improvement "
        "stagnation early_stopping_trials"
    ),
    "folds": "n_splits cv n_folds num_folds kfold k_fold k_folds cross_validation",
    "repeats": "executions_per_trial n_repeats replicas repetitions num_repeats n_seeds repeat",
    # [data]
    "source": "path file dataset data url filename data_path data_file file_path train_data csv loader",
    "target": "label labels y target_column label_column column outcome response class_column y_col dependent",
    "task": "problem problem_type task_type type kind",
    "validation": "validation_split val_split val val_size validation_size val_fraction validation_fraction valid dev",
    "test": "test_split test_size holdout test_fraction hold_out",
    "columns": "column_types column_kinds dtypes feature_types feature_columns drop_columns ignore_columns",
    "category": "categorical categories categorical_features cat_features nominal",
    "number": "numeric numerical numeric_features numerical_features",
    "date": "dates datetime datetimes",
    "encoding": "charset file_encoding character_encoding codec",
    "text": "text_vectorization textvectorization vectorization vectorizer vectorize tokenizer tokenization",
    "max_tokens": "vocabulary_size vocab_size max_features num_words max_words max_vocab",
    "output_sequence_length": "max_length maxlen max_len sequence_length max_sequence_length",
    "output_mode": "mode",
    "scale": "normalize normalise standardize standardise scaler scaling normalization preprocessing",
    "image_size": "target_size img_size input_size resize size image_shape",
    "exif": "exif_orientation exif_transpose orientation auto_orient",
    "group": "groups group_column group_col group_by groupby group_key subject",
    "order": "time_column date_column time_col date_col timestamp sort_by sort order_by",
    "split": "split_column split_col fold_column partition",
    "window": "lookback look_back sequence_length seq_len timesteps window_size input_width n_lags lags",
    "horizon": "forecast_horizon ahead lead offset prediction_length",
    "stride": "sequence_stride window_stride",
    "limit": "max_rows n_rows nrows subset sample sample_size max_samples max_examples",
    # [model]
    "build": ("builder build_fn model_fn hypermodel architecture type model build_model create_model function network"),
    "units": (
        "hidden n_layers num_layers depth hidden_units hidden_layers hidden_layer_sizes hidden_sizes hidden_dims layer_sizes "
        "layers num_units n_units neurons width widths dense dense_units hidden_size hidden_dim nodes n_hidden "
        "units_list"
    ),
    "filters": "channels conv_filters num_filters n_filters conv_channels conv",
    "kernel_size": "kernel kernel_sizes filter_size ksize",
    "activation": "activations act nonlinearity activation_function activation_fn hidden_activation",
    "dropout": "dropout_rate drop drop_rate p_dropout dropout_prob",
    "initializer": "initialiser kernel_initializer kernel_initialiser init weight_init kernel_init initialization",
    "batch_norm": "batch_normalization batchnorm bn use_batch_norm batchnormalization normalization use_bn norm",
    "l1": "l1_penalty l1_reg l1_regularization kernel_l1 reg_alpha",
    "l2": "l2_penalty l2_reg l2_regularization kernel_l2 reg_lambda alpha kernel_regularizer",
    # [train]
    "optimizer": "optimiser optim solver opt optimizers optimizer_name",
    "learning_rate": (
        "lr eta learningrate learning_rate_init eta0 step_size initial_learning_rate base_lr max_lr alpha learn_rate"
    ),
    "batch_size": (
        "batch batchsize bs minibatch mini_batch_size minibatch_size train_batch_size "
        "per_device_train_batch_size batches"
    ),
    "weight_decay": "wd decay weightdecay",
    "momentum": "mom nesterov_momentum momentums",
    "beta_1": "beta1 b1",
    "beta_2": "beta2 b2",
    "epsilon": "eps",
    "clipnorm": (
        "clip_norm grad_clip gradient_clip gradient_clipping max_grad_norm clip clip_grad_norm gradient_clip_val"
    ),
    "clipvalue": "clip_value",
    "global_clipnorm": "global_clip_norm",
    "gradient_accumulation_steps": "grad_accumulation accumulate accumulate_grad_batches gradient_accumulation",
    "ema_momentum": "ema ema_decay",
    "schedule": (
        "scheduler lr_schedule lr_scheduler learning_rate_schedule decay_schedule lr_scheduler_type lr_decay annealing"
    ),
    "warmup": "warmup_ratio warmup_proportion warm_up warmup_epochs warmup_fraction lr_warmup",
    "end_factor": "final_lr_factor min_lr_ratio eta_min alpha final_div_factor min_lr end_lr final_lr",
    "loss": "loss_fn loss_function criterion cost losses loss_name",
    "metrics": "metric scoring scorers metric_names",
    "label_smoothing": "smoothing label_smooth",
    "class_weight": "class_weights weights weighting balanced class_balance",
    "callbacks": "callback hooks",
    # [search]
    "sampler": (
        "method algorithm algo tuner oracle search_alg strategy suggest sampling engine search_algorithm "
        "optimizer searcher samplers tuner_type"
    ),
    "pruner": "scheduler pruning early_terminate stopper trial_scheduler pruners early_termination asha",
    "early_stopping": "earlystopping early_stop patience stopping early_stopping_rounds",
    "duplicates": "allow_duplicates allow_duplicate repeat_configs max_collisions",
    "start": (
        "initial points_to_evaluate enqueue initial_configs initial_points warm_start x0 baseline "
        "start_configs init first enqueue_trial evaluate_first"
    ),
    "candidates": "configs configurations choose_from pool finite candidate_configs",
    "learn_from": "transfer transfer_from source_study prior_study warm_start_from previous add_trials warmstart",
    "prune_start": "prune_baseline prune_initial may_prune_start",
    "patience": "rounds n_iter_no_change epochs stop_after wait max_wait",
    "min_delta": "delta tol threshold min_change minimum_delta",
    "start_from_epoch": "warmup start_epoch start grace_period min_epochs burn_in",
    # [limits]
    "parameters": (
        "params n_parameters num_parameters max_parameters n_params num_params max_params param_count parameter_count "
        "count_params max_model_size weights"
    ),
    "model_mb": "model_size size size_mb mb memory_mb model_size_mb max_size file_size",
    "latency_ms": "latency max_latency inference_time inference_ms inference_latency ms prediction_time",
    # [run]
    "engine": "mode executor trainer_engine",
    "lanes": (
        "parallel concurrency max_concurrent max_concurrent_trials parallel_trials n_parallel trials_per_gpu vmap"
    ),
    "backend": "framework keras_backend library",
    "precision": "dtype mixed_precision policy amp dtype_policy float",
    "devices": (
        "gpus gpu device n_jobs workers num_workers n_gpus num_gpus resources cpus cpu resources_per_trial "
        "accelerator distribution_strategy processes jobs n_workers parallelism"
    ),
    "storage": (
        "database db path directory output results_dir storage_path url storage_url local_dir output_dir folder log_dir"
    ),
    "trial_time": "trial_timeout max_trial_time timeout_per_trial time_per_trial time_limit_per_trial",
    "keep": ("keep_best save_best top_k keep_checkpoints num_to_keep save checkpoints keep_weights n_best save_models"),
    "disk": "max_disk disk_limit disk_space quota",
    "worker_memory": "memory max_memory memory_limit ram mem memory_mb",
    "deterministic": "reproducible op_determinism enable_op_determinism determinism",
    # A range.
    "low": "min lower minimum min_value start from lower_bound minval a begin lo",
    "high": "max upper maximum max_value stop end to upper_bound maxval b hi",
    "choices": "grid_search values options categories list categorical items choice one_of candidates domain grid",
    "log": ("log_scale log_uniform loguniform sampling log_sampling logarithmic scale prior distribution reverse_log"),
    "step": "q quantum increment stride by steps resolution interval",
    "when": (
        "condition conditions conditional if parent depends_on depends conditional_scope parent_name "
        "parent_values requires"
    ),
    # Samplers.
    "bayes": (
        "bayesian bayesian_optimization bayesopt bayes_opt bayesian_optimisation bo gpei smac botorch ax "
        "hebo bayesoptsearch axsearch skopt bayesiansearch bayesiantuner bayesian_search bayesiansampler bayesiansearchcv "
        "auto default gaussian_process"
    ),
    "random": (
        "randomsampler random_search randomsearch randomizedsearchcv uniform basic_variant randomizedsearch "
        "rand randomised randomized"
    ),
    "tpe": (
        "tunebohb tpesampler hyperopt hyperoptsearch optunasearch optuna tree_parzen parzen mtpe bohb "
        "tree_structured_parzen_estimator"
    ),
    "gp": "gpsampler gaussianprocess gaussian_process_sampler",
    "cmaes": "cma cma_es cmaessampler cmaessampling evolution evolutionary genetic pycma",
    "qmc": "qmcsampler sobol halton quasi_random quasirandom quasi_monte_carlo latin lhs latin_hypercube",
    "grid": (
        "gridsampler grid_search gridsearch gridsearchcv bruteforce brute_force bruteforcesampler exhaustive "
        "parameter_grid"
    ),
    # Pruners.
    "none": "nop noppruner nothing no off false never null disabled nopruner fifo fifoscheduler nopruning",
    "halving": (
        "asha sha successive_halving successivehalving successivehalvingpruner async_successive_halving "
        "asyncsuccessivehalving ashascheduler asynchyperband asynchyperbandscheduler halvinggridsearchcv "
        "halvingrandomsearchcv async_hyperband halvingpruner rungs"
    ),
    "hyperband": "hyperbandpruner hyperbandscheduler hyperbandforbohb hb_bohb",
    "median": "medianpruner medianstopping medianstoppingrule median_stopping median_stopping_rule",
    "percentile": "percentilepruner thresholdpruner threshold wilcoxon wilcoxonpruner quantile",
    "patient": "patientpruner",
    # Options of samplers and pruners.
    "startup_trials": "n_startup_trials min_trials min_samples_required n_min_trials grace_trials",
    "n_startup_trials": "startup_trials num_initial_points n_initial_points random_starts n_random warmup_trials",
    "warmup_epochs": "n_warmup_steps warmup_steps grace_period warmup min_epochs",
    "first_rung": "min_resource grace_period min_epochs min_t min_iter min_resources r_min",
    "eta": "reduction_factor factor eta_factor",
    "brackets": "n_brackets num_brackets bracket",
    "wrapped": "wrapped_pruner pruner inner",
    "points": "n_points num_points per_dimension resolution n_steps",
    # Optimizers.
    "sgd": "gradient_descent gd stochastic_gradient_descent momentum_sgd nesterov vanilla sgdm",
    "adamw": "adamweightdecay adam_w adamw_torch weight_decayed_adam",
    "adam": "adamoptimizer radam adamax_adam",
    "rmsprop": "rms rms_prop rmspropoptimizer",
    "schedulefreeadamw": "schedule_free schedulefree schedule_free_adamw",
    # Losses.
    "huber": "smooth_l1 smoothl1 smooth_l1_loss huberloss",
    "mean_squared_error": "mseloss l2loss squared_error mean_square_error l2_loss least_squares",
    "mean_absolute_error": "l1loss maeloss absolute_error l1_loss",
    "sparse_categorical_crossentropy": (
        "cross_entropy crossentropy crossentropyloss categorical_cross_entropy softmax_loss ce scce log_loss "
        "nll nllloss softmax_cross_entropy sparse_crossentropy sparse_categorical_cross_entropy"
    ),
    "binary_crossentropy": (
        "bceloss bcewithlogitsloss bcewithlogits bce_with_logits binary_cross_entropy logloss "
        "sigmoid_cross_entropy sigmoid_focal"
    ),
    # Metrics.
    "val_accuracy": (
        "test_accuracy validation_accuracy valid_accuracy accuracy_val eval_accuracy val_acc_score "
        "accuracy_score test_acc validation_acc"
    ),
    "val_loss": "test_loss validation_loss valid_loss eval_loss loss_val",
    "f1_score": "f1 f1score f1_macro f_score",
    "auc": "roc_auc auroc roc roc_auc_score aucroc",
    "accuracy": "acc_score balanced_accuracy accuracy_score",
    "root_mean_squared_error": "rmse",
    "r2_score": "r2 r_squared r2score",
    # Schedules, backends and the rest.
    "cosine": (
        "cosine_annealing cosineannealing cosine_decay cosinedecay cos cosineannealinglr cosine_with_restarts "
        "onecycle one_cycle cosine_restarts"
    ),
    "linear": "polynomial polynomial_decay linear_decay poly lineardecay polynomialdecay linearlr",
    "exponential": "exp exponential_decay exponentialdecay exponentiallr exp_decay",
    "constant": "fixed flat const constant_lr",
    "maximize": "max maximise higher up greater high larger increase",
    "minimize": "min minimise lower down less low smaller decrease",
    "tensorflow": "tf tf2 tensor_flow",
    "jax": "flax numpy_jax",
    "float32": "fp32 full single 32 float f32",
    "mixed_bfloat16": "bf16_mixed mixed_bf16 bf16 bfloat amp_bf16",
    "mixed_float16": "fp16 float16 half mixed amp fp16_mixed 16 mixed_fp16",
    "standard": "standardscaler zscore z_score standardize standardise std standard_scaler normalize meanstd",
    "minmax": "minmaxscaler min_max 0_1 range unit rescale min_max_scaler",
    "classification": "multiclass multi_class multiclass_classification categorical classifier",
    "binary": "binary_classification two_class bool",
    "regression": "regressor regr continuous",
    "mlp": "dense mlpclassifier mlpregressor feedforward fully_connected fc ffn dnn perceptron tabular nn",
    "cnn": "convnet conv conv2d convolutional lenet resnet vgg",
    # Presets.
    "dense": "mlp default tabular fully_connected",
    "conv": "cnn convnet images image",
}

# Names of other tools that have no counterpart here -> why, and what to do instead.
_ABSENT_NAMES: Mapping[str, str] = {
    "n_startup_trials n_ei_candidates multivariate constant_liar popsize scramble points n_initial_points": (
        'an option stands in the sampler\'s table: sampler = { name = "tpe", n_startup_trials = 5 }'
    ),
    "first_rung reduction_factor eta startup_trials warmup_epochs n_warmup_steps brackets percentile min_resource "
    "grace_period wrapped": 'an option stands in the pruner\'s table: pruner = { name = "halving", eta = 3 }',
    "verbose verbosity log_level logging quiet": "there is no such setting; -q keeps `run` quiet",
    "overwrite resume load_if_exists restore continue": "run always goes on with a study that is there; "
    "another name begins another one (--name ...)",
    "hydra launcher defaults": (
        "there is no launcher, and files are not composed: a study is one file, and --set changes any key"
    ),
    "constraints outcome_constraints parameter_constraints constraint": (
        "[limits] refuses configs by parameters, model_mb or latency_ms; a parameter that depends on another has `when`"
    ),
    "steps_per_epoch validation_steps initial_epoch": "an epoch is all training rows; limit under [data] uses fewer",
    "validation_freq": "every epoch is validated",
    "restore_best_weights": "the weights of the best epoch are kept anyway: remove it",
    "probabilities probs p weights_of_choices": "choices are drawn evenly: remove it",
    "mu sigma mean std stddev": "there is no normal distribution: give low and high, with log = true for positive scales",
    "shuffle": "training rows are always shuffled, by the study's seed",
    "x x_train y_train x_val y_val x_validation y_validation x_test y_test": (
        "the arrays of an .npz file or a data function are called x and y themselves (or x_train, y_train and so on): "
        "remove the key"
    ),
    "priority max_retries max_failures max_consecutive_failed_trials": "three like failures in a row end a study",
    "flops macs max_flops": "not counted; latency_ms under [limits] is measured, parameters is counted",
    "value fixed const default": "a fixed value stands under [train] or [model] as `name = value`",
}

# Values of other tools that have no counterpart here -> why, and what to do instead.
_ABSENT_VALUES: Mapping[str, str] = {
    "pbt pb2 populationbasedtraining populationbased": (
        "a trial keeps its config to its end; halving, the default pruner, ends bad ones early"
    ),
    "nsgaii nsgaiisampler nsga2 nsgaiiisampler motpe motpesampler": (
        "a study has one objective; a metric of your own can weigh several"
    ),
    "torch pytorch": "models train on JAX or TensorFlow, and Keras's layers run on either",
    "ray dask spark joblib horovod": "training runs on this machine; devices under [run] names its GPUs",
    "max_t max_resource max_resources r_max": "the last rung follows from epochs under [study]",
}

_REASONS: Mapping[str, str] = {
    "y": "a column of a table; the arrays of an .npz file are called x and y themselves",
    "asha": "halving is that: asynchronous, over running trials too",
    "successivehalving": "halving is that",
    "bohb": "bayes and hyperband together come closest",
    "warmupepochs": "warmup is the share of the steps, in 0..1",
    "testaccuracy": "test rows are never used in a search",
    "testloss": "test rows are never used in a search",
    "hiddenlayers": "units is a list, a number a layer",
    "layers": "units is a list, a number a layer",
    "njobs": "lanes train many trials at once by themselves; devices names GPUs and CPUs, a worker each",
    "workers": "lanes train many trials at once by themselves; devices names GPUs and CPUs, a worker each",
}


def plain(name: str) -> str:
    """Return a name in the form that is compared: lower-case letters and digits only."""
    return "".join(character for character in name.lower() if character.isalnum())


_NAMES_OF: dict[str, list[str]] = {}
for _name, _words in _SYNONYMS.items():
    for _word in _words.split():
        _NAMES_OF.setdefault(plain(_word), []).append(_name)
_ABSENCE_REASONS = {plain(word): why for words, why in _ABSENT_NAMES.items() for word in words.split()}
_VALUE_ABSENCE_REASONS = {plain(word): why for words, why in _ABSENT_VALUES.items() for word in words.split()}


def known_name(name: str, known: Iterable[str]) -> str | None:
    """Return the one of the `known` names that has the synonym `name`; None if there is none.

    A name that differs only in case, blanks, hyphens or underscores counts as a synonym.
    """
    by_plain: dict[str, str] = {}
    for word in known:
        by_plain.setdefault(plain(word), word)
    wanted = plain(name)
    if not wanted:
        return None
    if wanted in by_plain:
        return by_plain[wanted]
    named = next((by_plain[plain(word)] for word in _NAMES_OF.get(wanted, ()) if plain(word) in by_plain), None)
    module, _, last = name.rpartition(".")
    # Names of Python, such as optuna.samplers.TPESampler.
    return known_name(last, by_plain.values()) if named is None and module and plain(last) else named


def reason(name: str) -> str:
    """Return a remark on the synonym `name`; "" if there is none."""
    return _REASONS.get(plain(name), "")


def absence_reason(name: str) -> str:
    """Return why the key `name` has no counterpart here and what to do instead; "" if no reason is known."""
    return _ABSENCE_REASONS.get(plain(name), "")


def value_absence_reason(name: str) -> str:
    """Return why the value `name` has no counterpart here and what to do instead; "" if no reason is known."""
    return _VALUE_ABSENCE_REASONS.get(plain(name.rpartition(".")[2]), "")
