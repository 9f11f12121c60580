package com.google.android.material.dialog;

import android.content.DialogInterface;
import org.jetbrains.annotations.Nullable;

public class MaterialAlertDialogBuilder extends androidx.appcompat.app.AlertDialog.Builder {
    public MaterialAlertDialogBuilder(android.content.Context context) { super(context); }
    public native MaterialAlertDialogBuilder setTitle(int title);
    public native MaterialAlertDialogBuilder setMessage(int message);
    public native MaterialAlertDialogBuilder setPositiveButton(int text, @Nullable DialogInterface.OnClickListener listener);
    public native MaterialAlertDialogBuilder setNegativeButton(int text, @Nullable DialogInterface.OnClickListener listener);
}
