package com.google.android.material.slider;

public interface BaseOnChangeListener<S> { void onValueChange(S slider, float value, boolean fromUser); }
