"""Learned optimizers: update rules with weights of their own, their meta-training, and their use as any optimizer.

A :class:`Rule` is pure functions; :func:`meta_train` learns its weights on many trainings at once, by differentiating
through them (:class:`Unrolled`) or by evolution strategies (:class:`PES`); a :class:`LearnedOptimizer` applies it.
"""

from cockpit.optim.learned.classification import Classification as Classification
from cockpit.optim.learned.hierarchical import Hierarchical as Hierarchical
from cockpit.optim.learned.hierarchical import HierarchicalRule as HierarchicalRule
from cockpit.optim.learned.l2o_lstm import L2OLSTM as L2OLSTM
from cockpit.optim.learned.l2o_lstm import L2OLSTMRule as L2OLSTMRule
from cockpit.optim.learned.learned_adam import LearnedAdam as LearnedAdam
from cockpit.optim.learned.learned_adam import LearnedAdamRule as LearnedAdamRule
from cockpit.optim.learned.lure import LURE as LURE
from cockpit.optim.learned.lure import LURERule as LURERule
from cockpit.optim.learned.meta_sgd import MetaSGD as MetaSGD
from cockpit.optim.learned.meta_sgd import MetaSGDRule as MetaSGDRule
from cockpit.optim.learned.ml3 import ML3 as ML3
from cockpit.optim.learned.ml3 import ML3Rule as ML3Rule
from cockpit.optim.learned.mpt_lure import MPT_LURE as MPT_LURE
from cockpit.optim.learned.mpt_lure import MPTLURERule as MPTLURERule
from cockpit.optim.learned.optimizer import LearnedOptimizer as LearnedOptimizer
from cockpit.optim.learned.pes import PES as PES
from cockpit.optim.learned.recipe import Recipe as Recipe
from cockpit.optim.learned.recipes import RECIPES as RECIPES
from cockpit.optim.learned.rule import SHARED as SHARED
from cockpit.optim.learned.rule import Rule as Rule
from cockpit.optim.learned.rule import Signals as Signals
from cockpit.optim.learned.rule import State as State
from cockpit.optim.learned.rule import Tensors as Tensors
from cockpit.optim.learned.sines import Sines as Sines
from cockpit.optim.learned.tasks import Task as Task
from cockpit.optim.learned.tasks import stacked_parameters as stacked_parameters
from cockpit.optim.learned.training import MetaTraining as MetaTraining
from cockpit.optim.learned.training import meta_train as meta_train
from cockpit.optim.learned.training import trained as trained
from cockpit.optim.learned.unroll import Unrolled as Unrolled
from cockpit.optim.learned.weights import Weights as Weights
